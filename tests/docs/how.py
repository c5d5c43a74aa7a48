"""How a test runs each command of the documentation, or why none does: `HOW` says it of the `sh` blocks in README.md and docs/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.docs import commands
from tests.docs.commands import ROOT

PAGES: dict[str, str] = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in commands.PAGES}


@dataclass(frozen=True)
class Here:
    """Run here, in a folder with what it `needs`, with some words replaced; `codes`: how it may end."""

    needs: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0,)
    slow: bool = False
    instead: Mapping[str, str] = field(default_factory=dict)
    leaves: str | None = None
    """What is there afterwards."""


@dataclass(frozen=True)
class Dry:
    """It trains for minutes to months: run here with --dry-run, which reads, checks and plans all that it would do."""

    needs: tuple[str, ...] = ()
    slow: bool = True


@dataclass(frozen=True)
class ByTests:
    """By tests, each `path::name`, whose files together hold its verb and its options."""

    where: tuple[str, ...]


@dataclass(frozen=True)
class Elsewhere:
    """Nowhere but on a user's machine. `why` says what it takes."""

    why: str


How = Here | Dry | ByTests | Elsewhere
FIRST_RUN, CLI = "tests/test_first_run.py", "tests/harness/cli"
NETWORK, SHELL, CLUSTER = "asks the network", "changes the shell that it is typed into", "asks a cluster"
UPSTREAM = "runs somebody else's code, from a checkout that the network gives"
CHECKPOINT = "results/local/mini/cells/roads-ufldv2_micro-baseline-s0-*/train/checkpoint.safetensors"
TRAIN_AND_PREDICT = f"samiro-bench predict ufldv2_micro --checkpoint {CHECKPOINT}"
ON_CULANE = {"/data/CULane": "CULane"}

HOW: dict[str, How] = {
    # README.md, quick-start.md
    "make bench": Elsewhere(
        "sets up .venv from a package index and trains for minutes: tests/harness/test_bench.py is its inside"
    ),
    "make test": Elsewhere("is what runs this"),
    "make test-slow": Elsewhere("is what runs this"),
    "make": ByTests((f"{FIRST_RUN}::test_make_alone_shows_every_target_once_and_where_to_begin",)),
    "make setup": ByTests((f"{FIRST_RUN}::test_pip_without_a_network_says_how_to_go_on",)),
    "git clone URL samiro-bench": Elsewhere(NETWORK),
    "cd samiro-bench": Elsewhere(SHELL),
    ". .venv/bin/activate": Elsewhere(SHELL),
    "samiro-bench --help": Here(),
    "samiro-bench plan mini --seeds 3": Here(slow=True),
    "samiro-bench bench mini --seeds 3": Dry(),
    "samiro-bench status mini --seeds 3": Here(),
    "samiro-bench leaderboard mini": Here(("records",), leaves="results/local/mini/site/index.html"),
    "python3 -m venv .venv": Elsewhere("`make setup` does it, see tests/test_first_run.py"),
    ".venv/bin/python -m pip install --constraint constraints.txt --editable .": Elsewhere(NETWORK),
    "samiro-bench data render roads --train 8 --val 0 --test 4 --sheet roads.jpg": Here(
        slow=True, leaves="roads/driver_test_00"
    ),
    f"{TRAIN_AND_PREDICT} --out lanes --overlay roads/driver_test_00": Here(("checkpoint", "roads"), leaves="lanes"),
    "cp suites/mini.yaml mine.yaml": Here(("checkout",), leaves="mine.yaml"),
    "samiro-bench plan mine.yaml": Here(("mine",), slow=True),
    "samiro-bench bench mine.yaml --only detector=ufldv2_micro --dry-run": Here(("mine",), slow=True),
    # real-datasets.md, datasets.md
    "samiro-bench env": Here(),
    "cp paths.example.yaml paths.yaml": Here(("checkout",), leaves="paths.yaml"),
    "samiro-bench data doctor /data/CULane --sheet look.jpg": Here(
        ("CULane",), (1,), instead=ON_CULANE, leaves="look.jpg"
    ),
    "samiro-bench data index /data/CULane": Here(("CULane",), instead=ON_CULANE),
    "samiro-bench data convert /data/CurveLanes roads --to culane --size 1440x2560": Here(
        ("CurveLanes",), instead={"/data/CurveLanes": "CurveLanes"}, leaves="roads/list/train.txt"
    ),
    "samiro-bench data unpack results/local/culane/cells/CELL/predict-test/predictions.npz /data/CULane lanes": ByTests(
        (f"{CLI}/test_data_unpack.py::test_it_writes_what_is_scored",)
    ),
    "samiro-bench data render roads --train 360 --val 60 --test 180": ByTests(
        (f"{CLI}/test_data_render.py::test_every_form_is_rendered_and_shown_on_a_sheet",)
    ),
    "export SAMIRO_BENCH_DATA_CULANE=/data/CULane SAMIRO_BENCH_DATA_MY_ROADS=/data/roads": Elsewhere(SHELL),
    "samiro-bench plan culane --only detector=ufldv2_resnet18,seed=0": Here(slow=True),
    "samiro-bench plan culane --only detector=ufldv2_resnet18,seed=0 --probe": Elsewhere(
        "times trainings on CULane, on a GPU"
    ),
    "samiro-bench bench culane --only detector=ufldv2_resnet18,seed=0": Dry(),
    "samiro-bench status culane --only detector=ufldv2_resnet18,seed=0": Here(),
    "samiro-bench bench culane --engine slurm --resources hours=12,slurm.partition=gpu": Dry(),
    # add-a-*.md
    "python to_culane.py labels.jsonl photos my-roads": ByTests(
        ("tests/docs/test_add_a_dataset.py::test_the_program_writes_a_dataset_that_the_doctor_and_a_plan_take",)
    ),
    "samiro-bench data doctor my-roads --sheet look.jpg": ByTests(
        ("tests/docs/test_add_a_dataset.py::test_the_program_writes_a_dataset_that_the_doctor_and_a_plan_take",)
    ),
    "export SAMIRO_BENCH_DATA_MY_ROADS=$PWD/my-roads": Elsewhere(SHELL),
    "samiro-bench plan my-roads.yaml": ByTests(
        ("tests/docs/test_add_a_dataset.py::test_the_program_writes_a_dataset_that_the_doctor_and_a_plan_take",)
    ),
    "samiro-bench bench my-roads.yaml": ByTests(
        ("tests/docs/test_add_a_dataset.py::test_the_suite_trains_and_scores_at_its_own_size",)
    ),
    "samiro-bench plan decay.yaml": ByTests(
        ("tests/docs/test_add_a_method.py::test_the_example_is_known_and_fits_its_detector",)
    ),
    "samiro-bench bench decay.yaml": ByTests(
        ("tests/docs/test_add_a_method.py::test_the_example_trains_and_is_compared_with_the_baseline",)
    ),
    "samiro-bench detectors new my_lanes": Here(leaves="my_lanes.yaml"),
    "samiro-bench detectors check my_lanes.py:MyLanes --quick": Here(("my_lanes",), slow=True),
    "samiro-bench bench my_lanes.yaml": Dry(("my_lanes",)),
    "pip install -e .": Elsewhere(NETWORK),
    "git clone https://github.com/voldemortX/pytorch-auto-drive": Elsewhere(NETWORK),
    "samiro-bench detectors parity resa_resnet18 --checkout pytorch-auto-drive": Elsewhere(UPSTREAM),
    # bridges.md, weights.md
    "samiro-bench detectors fetch LaneATT": Elsewhere(NETWORK),
    "samiro-bench detectors list": Here(),
    "samiro-bench detectors check laneatt_resnet18_upstream --form culane --quick": Elsewhere(UPSTREAM),
    "samiro-bench weights fetch culane": Elsewhere(NETWORK),
    "samiro-bench weights fetch paper": Elsewhere(NETWORK),
    "samiro-bench weights fetch timm:convnextv2_nano.fcmae": Elsewhere(NETWORK),
    "samiro-bench weights fetch resnet18 --from resnet18-f37072fd.pth": ByTests(
        ("tests/harness/weights/test_fetch.py::test_the_command_takes_a_file_and_lists_what_is_there",)
    ),
    # engines.md, watching.md
    "samiro-bench bench paper --engine slurm": Dry(),
    "make bench SUITE=paper ENGINE=slurm": Elsewhere(CLUSTER),
    "git clone ... /shared/me/samiro-bench && cd /shared/me/samiro-bench": Elsewhere(NETWORK),
    "make setup && .venv/bin/pip install --constraint constraints.txt --editable '.[slurm]'": Elsewhere(NETWORK),
    "samiro-bench plan paper": Here(slow=True),
    "samiro-bench plan rendered --tier A --probe": Elsewhere("times trainings of full-size detectors, on a GPU"),
    "timeout --signal INT 500 samiro-bench bench rendered --tier A --only 'detector=resa_*,method=baseline,seed=0' --yes": Elsewhere(
        "trains a full-size detector, on a GPU"
    ),
    "samiro-bench bench paper --engine slurm --resources hours=12,slurm.partition=gpu-low,slurm.qos=scavenger": Dry(),
    "samiro-bench bench paper --engine slurm --resources 'detector=resa_*,memory_gigabytes=64'": Dry(),
    "tmux new -s bench 'samiro-bench bench paper --engine slurm'": Elsewhere(CLUSTER),
    "samiro-bench status paper": Here(),
    "squeue --me": Elsewhere(CLUSTER),
    "tail -f results/local/paper/logs/CELL.log": Elsewhere("follows a log until it is stopped"),
    "ray get-auth-token --generate": Elsewhere(CLUSTER),
    "export RAY_AUTH_MODE=token": Elsewhere(CLUSTER),
    "ray start --head": Elsewhere(CLUSTER),
    "ray start --address=HEAD:6379": Elsewhere(CLUSTER),
    "RAY_ADDRESS=HEAD:6379 samiro-bench bench paper --engine ray": Elsewhere(CLUSTER),
    "samiro-bench bench field --resources 'detector=*_micro,gpu_memory_gigabytes=6'": Dry(),
    "samiro-bench plan paper --only 'dataset=culane,detector=resa_*' --skip seed=4 --state stale": Here(slow=True),
    "samiro-bench bench paper --dry-run": Here(slow=True),
    "samiro-bench plan paper --probe": Elsewhere("times trainings on three datasets, on a GPU"),
    "samiro-bench plan paper --machine 'NVIDIA H200'": ByTests(
        (f"{CLI}/test_plan.py::test_a_plan_is_priced_on_a_machine_whose_records_are_here",)
    ),
    "samiro-bench plan paper --json": Here(slow=True),
    "samiro-bench status paper --watch": Here(),
    "samiro-bench status paper --json": Here(),
    'tail -qF results/local/paper/events/*.jsonl | jq -c \'select(.event == "ended" and .state == "failed") | [.job, .message]\'': (
        Elsewhere("follows events until it is stopped")
    ),
    # method.md
    "samiro-bench oracle pretrain photos --backbone resnet18 --out photos.safetensors --steps 5000": ByTests(
        (f"{CLI}/test_oracle.py::test_a_folder_of_images_becomes_an_oracle_with_card_and_pictures",)
    ),
    "samiro-bench oracle pretrain photos --backbone resnet18 --out photos.safetensors --steps 5000 --check --labels CULANE": ByTests(
        (f"{CLI}/test_oracle.py::test_what_fails_a_check_or_diverges_ends_with_exit_code_one",)
    ),
    "samiro-bench oracle probe timm:convnextv2_nano.fcmae --labels /data/CULane --size 288x800": ByTests(
        (f"{CLI}/test_oracle_probe.py::test_every_oracle_has_a_line_with_its_taps_beside_the_drawn_networks",)
    ),
    "samiro-bench oracle probe results/local/artefacts/oracle/*/oracle.safetensors --labels "
    "results/local/artefacts/rendered/culane-419968419d22/dataset": ByTests(
        (f"{CLI}/test_oracle_probe.py::test_every_oracle_has_a_line_with_its_taps_beside_the_drawn_networks",)
    ),
    "samiro-bench oracle probe results/local/artefacts/oracle/*/oracle.safetensors --labels "
    "results/local/artefacts/rendered/culane-e93a71ac6823/dataset": ByTests(
        (f"{CLI}/test_oracle_probe.py::test_every_oracle_has_a_line_with_its_taps_beside_the_drawn_networks",)
    ),
    "samiro-bench oracle probe photos.safetensors timm:convnextv2_nano.fcmae --labels CULANE": ByTests(
        (f"{CLI}/test_oracle_probe.py::test_every_oracle_has_a_line_with_its_taps_beside_the_drawn_networks",)
    ),
    "samiro-bench oracle probe supervised:resnet_micro=checkpoint.safetensors --labels CULANE --size 128x320": ByTests(
        (f"{CLI}/test_oracle_probe.py::test_every_oracle_has_a_line_with_its_taps_beside_the_drawn_networks",)
    ),
    "samiro-bench oracle list photos.safetensors": ByTests(
        (f"{CLI}/test_oracle.py::test_a_folder_of_images_becomes_an_oracle_with_card_and_pictures",)
    ),
    # metrics.md
    "samiro-bench score culane --labels CULane --predictions out CULane/list/test_split/test0_normal.txt": Here(
        ("CULane", "out")
    ),
    "samiro-bench score culane --metric clrnet --iou 0.9 --labels CULane --predictions out CULane/list/test.txt --json": (
        Here(("CULane", "out"))
    ),
    "samiro-bench score tusimple --labels test_label.json --predictions predictions.json --per-image rows.jsonl": Here(
        ("tusimple",), leaves="rows.jsonl"
    ),
    "samiro-bench score llamas --labels llamas/labels/valid --predictions out --strict": Here(("llamas",)),
    # compare.md
    "samiro-bench compare culane --labels CULane --baseline a0 --method b0 CULane/list/test_split/test0_normal.txt": ByTests(
        (f"{CLI}/test_compare.py::test_a_published_gain_comes_out_of_its_predictions",)
    ),
    "samiro-bench compare culane --labels CULane --baseline a0 --baseline a1 --baseline a2 --method b0 --method b1 --method b2 "
    "CULane/list/test.txt --json": ByTests(
        (f"{CLI}/test_compare.py::test_a_published_gain_comes_out_of_its_predictions",)
    ),
    "samiro-bench compare tusimple --labels test_label.json --baseline a0.json --method b0.json": ByTests(
        (f"{CLI}/test_compare.py::test_lines_of_tusimple_may_stand_in_any_order",)
    ),
    "samiro-bench compare llamas --labels llamas/labels/valid --baseline a0 --method b0": ByTests(
        (f"{CLI}/test_compare.py::test_clips_of_llamas_are_a_hundred_frames_of_a_recording",)
    ),
    "samiro-bench compare culane --labels CULane --baseline a0 --baseline a1 --baseline a2 --method b0 --method b1 --method b2 "
    "--gain 0.4 CULane/list/test.txt": ByTests(
        (
            f"{CLI}/test_compare.py::test_a_published_gain_comes_out_of_its_predictions",
            f"{CLI}/test_compare.py::test_gains_that_are_asked_for_are_told_with_the_pairs_that_they_take",
        )
    ),
    "samiro-bench seeds results/undecided --gain 0.5 --clips 2": ByTests(
        (f"{CLI}/test_seeds.py::test_more_clips_show_what_few_hide",)
    ),
    # page.md, rendered.md, real-frames.md, robustness.md, statistics.md, suites.md, throughput.md
    "samiro-bench publish mini --tables": Here(("published",), slow=True, leaves="results/mini/leaderboard.md"),
    "samiro-bench data render OUT --form tusimple --train 360 --test 240 --sheet sheet.jpg": ByTests(
        (f"{CLI}/test_data_render.py::test_every_form_is_rendered_and_shown_on_a_sheet",)
    ),
    "samiro-bench bench rendered-reduced": Dry(),
    "samiro-bench detectors import lstr_resnet18s LSTR_500000.pkl --out lstr.safetensors": ByTests(
        (f"{CLI}/test_detectors_import.py::test_what_is_written_loads_as_the_detector_and_says_where_it_is_from",)
    ),
    "samiro-bench data masks FRAMES whole": Here(("FRAMES",), leaves="whole/list/test.txt"),
    "samiro-bench data masks FRAMES part --crop 1280x460+0+13": Here(("FRAMES",), leaves="part/list/test.txt"),
    **dict.fromkeys(
        [
            "samiro-bench transfer rendered-reduced whole --checkpoint lstr_resnet18s=lstr.safetensors --out whole-scored",
            "samiro-bench transfer rendered-reduced part --checkpoint lstr_resnet18s=lstr.safetensors --out part-scored",
        ],
        ByTests(("tests/harness/prediction/test_transfer.py::test_the_figures_are_those_of_predict_and_score",)),
    ),
    "samiro-bench predict ufldv2_micro --checkpoint FILE --out lanes --overlay --crop 1280x460+0+13 drive.mp4": ByTests(
        (
            f"{CLI}/test_predict.py::test_a_video_gives_a_file_a_frame_and_a_video_of_overlays",
            f"{CLI}/test_predict.py::test_a_crop_is_taken_for_the_frame_and_lanes_stay_in_pixels_of_the_whole",
        )
    ),
    "samiro-bench overlays mini FRAMES/image_*.png --crop 1280x460+0+13 --out overlays.jpg": Elsewhere(
        "takes trained cells: tests/harness/test_bench.py draws those of a tiny suite"
    ),
    **dict.fromkeys(
        [
            "samiro-bench attention stages "
            "'results/local/artefacts/rendered/culane-bfb8218223bb/dataset/driver_test_*/*0_*/00000.jpg' --out attention",
            "samiro-bench attention apart "
            "'results/local/artefacts/rendered/culane-080bd101444c/dataset/driver_test_*/*0_*/00000.jpg'",
        ],
        Elsewhere("takes trained cells: tests/harness/prediction/test_attention.py stores some"),
    ),
    "samiro-bench bench mini-robustness": Dry(),
    "samiro-bench bench mini-transfer": Dry(),
    "python -m harness.report.simulation grid": Elsewhere(
        "computes for an hour; tests/docs/test_statistics.py reads its tables"
    ),
    "samiro-bench bench mine.yaml": Dry(("mine",)),
    "samiro-bench bench mine.yaml --only 'detector=resa_*,method=samiro' --only seed=0 --dry-run": ByTests(
        ("tests/docs/test_suites.py::test_the_commands_of_the_page_run",)
    ),
    "samiro-bench throughput ufldv2_micro --checkpoint FILE --data /data/CULane": Elsewhere(
        "measures for minutes: tests/harness/latency/test_process.py measures shortly"
    ),
}

WHOLE_PAGES = {
    "docs/publish.md": "tests/docs/test_publish.py::test_the_commands_lead_from_a_bare_clone_to_an_accepted_submission",
}
"""Page -> the test that runs its `sh` blocks one after the other, as they stand."""
