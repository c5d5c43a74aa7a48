"""Times of the whole protocol in the tables: what stands there only if it was measured, and which mode a table compares in."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from harness.records.timings import BatchPoint, InferenceCost, Latency, OwnTiming, StepCost
from harness.report.cost_cells import (
    MEASURED_IN_FULL,
    inference_tables,
    own_timing_tables,
    timing_tables,
    training_tables,
)
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.site.page import to_page
from harness.report.table import Table
from harness.report.table_csv import to_csv
from harness.report.tables import to_markdown


def point(size: int, rate: float) -> BatchPoint:
    return BatchPoint(
        size=size, batch_ms=1e3 * size / rate, images_per_second=rate, peak_memory_bytes=None, peak_reserved_bytes=None
    )


def cost(ratio: float, graph: Any = "eager") -> InferenceCost:
    return InferenceCost(
        protocol="lane-latency/1", graph=graph, device="cpu", threads=2, blocks=40, ratio=ratio, ratio_low=ratio - 0.01,
        ratio_high=ratio + 0.02, model_ms=10 * ratio, baseline_model_ms=10.0,
    )  # fmt: skip


def step_cost(**changes: Any) -> StepCost:
    values: dict[str, Any] = {
        "protocol": "step-cost/2", "device": "cpu", "threads": 2, "precision": "fp32", "batch_size": 16, "micro_batch_size": 16,
        "blocks": 6, "ratio": 1.5, "ratio_low": 1.4, "ratio_high": 1.6, "seconds_per_step": 0.3,
        "baseline_seconds_per_step": 0.2, "peak_memory_bytes": None, "baseline_peak_memory_bytes": None,
    }  # fmt: skip
    return StepCost(**(values | changes))


def full(made: Any, p50: float, mode: str, rate: float, **changes: Any) -> Any:
    run = made.throughput(p50)
    values = {
        "protocol": "lane-latency/1", "precision": mode, "repeats": 3, "p50_range_ms": (p50 - 0.25, p50 + 0.5),
        "pre_ms": run.latency_ms, "h2d_ms": run.latency_ms, "end_to_end_ms": run.latency_ms, "peak_resident_bytes": 700 * 2**20,
        "batches": (point(1, 100.0), point(16, rate), point(32, rate + 10)),
    }  # fmt: skip
    return made.throughput(p50, **(values | changes))


@pytest.fixture
def board(made: Any, tmp_path: Path) -> Leaderboard:
    """A baseline and a method, two seeds each, timed in two modes."""
    records = []
    for seed in (0, 1):
        for method in ("baseline", "samiro"):
            p50 = 10.0 + seed
            timed = (
                full(made, p50 - 4, "amp-bf16", 250.0, score_change=-0.002 + 0.001 * seed, score_images=2000),
                full(made, p50, "fp32-strict", 200.0 + 20 * seed),
            )
            costs = (cost(1.05 + 0.02 * seed), cost(1.01, "compiled")) if method == "samiro" else ()
            records.append(
                made.record(tmp_path, made.split(), method=method, seed=seed, throughput=timed, inference_cost=costs)
            )
    return leaderboard(records, tmp_path)


def column(table: Table, title: str) -> list[str]:
    place = table.header.index(title)
    return [row[place] for row in table.rows]


def test_a_mode_is_a_table_of_its_own_with_all_that_was_measured(board: Leaderboard) -> None:
    mixed, strict = timing_tables(board)
    assert ["amp-bf16" in table.title for table in (mixed, strict)] == [True, False]
    assert column(strict, "p50 range ms") == ["9.75 to 11.50"] * 2
    assert column(strict, "Images/s at 16") == ["210.0"] * 2
    assert column(strict, "Best images/s") == ["220.0 (32 at once)"] * 2
    assert column(strict, "Resident MiB") == ["700"] * 2
    assert "Δ score" not in strict.header
    assert column(mixed, "Δ score") == ["-0.15"] * 2


def latency(p50: float) -> Latency:
    """All figures apart from each other, so that none can stand in for another."""
    return Latency(p50=p50, p90=p50 + 0.1, p95=p50 + 0.2, p99=p50 + 0.3, mean=p50 + 0.05, minimum=p50 - 0.1)


def only_line(board: Leaderboard) -> dict[str, str]:
    """The line of a leaderboard.csv of one row."""
    (line,) = csv.DictReader(io.StringIO(to_csv(board)))
    return line


def test_every_region_and_every_peak_stands_under_its_own_name(made: Any, tmp_path: Path) -> None:
    timed = made.throughput(
        10.0, protocol="lane-latency/1", latency_ms=latency(10.0), model_ms=latency(7.0), post_ms=latency(2.0),
        h2d_ms=latency(1.0), pre_ms=latency(4.0), end_to_end_ms=latency(15.0), reference_ms=(20.0, 30.0),
        peak_memory_bytes=300 * 2**20, peak_reserved_bytes=500 * 2**20, peak_resident_bytes=700 * 2**20,
    )  # fmt: skip
    board = leaderboard([made.record(tmp_path, made.split(), throughput=(timed,))], tmp_path)
    line = only_line(board)
    assert {name: float(line[name]) for name in line if name.endswith(("_p50_ms", "p90_ms", "p95_ms", "p99_ms"))} == {
        "p90_ms": 10.1, "p95_ms": 10.2, "p99_ms": 10.3, "model_p50_ms": 7.0, "post_p50_ms": 2.0, "h2d_p50_ms": 1.0,
        "pre_p50_ms": 4.0, "end_to_end_p50_ms": 15.0,
    }  # fmt: skip
    assert float(line["relative"]) == 10.0 / 25.0  # of the reference's two medians, before and after
    peaks = [int(line[f"inference_{name}_bytes"]) >> 20 for name in ("peak", "reserved", "resident")]
    assert peaks == [300, 500, 700]
    (table,) = timing_tables(board)
    for title, shown in {
        "p90 ms": "10.10", "p95 ms": "10.20", "p99 ms": "10.30", "Model p50 ms": "7.00", "Post p50 ms": "2.00",
        "File p50 ms": "4.00", "End-to-end p50 ms": "15.00", "Relative": "0.400", "Peak MiB": "300", "Reserved MiB": "500",
        "Resident MiB": "700",
    }.items():  # fmt: skip
        assert column(table, title) == [shown], title


def test_a_program_s_own_times_stand_under_their_own_names_one_table_a_machine(made: Any, tmp_path: Path) -> None:
    records = [
        made.record(
            tmp_path, made.split(), detector="seen", seed=seed, throughput=(), environment=made.environment(cores=cores),
            own_timing=OwnTiming(protocol="program/1", device="cpu", threads=3, images=6, latency_ms=latency(10.0 + seed)),
        )
        for seed, cores in ((0, 64), (1, 2))
    ]  # fmt: skip
    slow, fast = own_timing_tables(leaderboard(records, tmp_path))
    assert ["2 cores" in table.title for table in (slow, fast)] == [True, False]
    assert fast.header[2:] == ("p50 ms", "p90 ms", "p95 ms", "p99 ms", "Mean ms", "Images", "Threads")
    assert fast.rows == (("seen", "mini", "10.00", "10.10", "10.20", "10.30", "10.05", "6", "3"),)
    assert slow.rows == (("seen", "mini", "11.00", "11.10", "11.20", "11.30", "11.05", "6", "3"),)


def test_figures_over_seeds_are_medians_that_one_slow_seed_does_not_move(made: Any, tmp_path: Path) -> None:
    """One of three seeds was measured on a busy machine."""
    records = []
    for seed, p50 in enumerate((10.0, 11.0, 90.0)):
        timed = full(
            made, p50, "fp32-strict", 2000 / p50, gflops=1.0 + seed, parameters=1000 + seed, flags=(f"f{seed}",),
            gflops_is_lower_bound=seed == 1,
        )  # fmt: skip
        costs = (cost(p50 / 10).model_copy(update={"flags": (f"c{seed}",)}),)
        trained = made.training(
            seconds_per_step=p50 / 100, seconds=p50, peak_memory_bytes=int(p50), micro_batch_size=16 >> seed
        )
        beside_baseline = step_cost(
            ratio=p50 / 10,
            ratio_low=p50 / 10 - 0.5,
            ratio_high=p50 / 10 + 0.5,
            protocol=f"step-cost/{1 + (seed != 1)}",
            flags=(f"s{seed}",),
        )
        record = made.record(
            tmp_path, made.split(), method="samiro", seed=seed, throughput=(timed,), inference_cost=costs, training=trained,
            step_cost=beside_baseline, identity_changes={"method_configuration": {"kind": "samiro", "lambda_mode": "ratio"}},
        )  # fmt: skip
        records.append(record)
    board = leaderboard(records, tmp_path)
    line = only_line(board)
    expected = {
        "p50_ms": 11.0, "fps": 1000 / 11, "relative": 11 / 20, "p50_low_ms": 9.75, "p50_high_ms": 90.5,
        "images_per_second_at_16": 2000 / 11, "best_batch": 32, "best_images_per_second": 2000 / 11 + 10, "gflops": 3.0,
        "parameters": 1002, "inference_ratio": 1.1, "inference_ratio_low": 0.99, "inference_ratio_high": 9.02,
        "step_ratio": 1.1, "step_ratio_low": 0.5, "step_ratio_high": 9.5,
        # What the trainings took is a mean: no seed's time is noise of another's.
        "seconds_per_step": 0.37, "training_seconds": 37.0, "training_peak_bytes": 90,
    }  # fmt: skip
    assert {name: float(line[name]) for name in expected} == pytest.approx(expected, abs=1e-4)
    assert (line["timing_flags"], line["gflops_is_lower_bound"]) == ("f0; f1; f2", "true")
    assert (line["inference_flags"], line["step_flags"]) == ("c0; c1; c2", "s0; s1; s2")
    (table,) = timing_tables(board)
    assert (column(table, "Cells"), column(table, "Iterations")) == (["3"], ["300"])
    assert column(table, "Flags") == ["f0, f1, f2"]
    (table,) = inference_tables(board)
    assert (column(table, "Model ms"), column(table, "Baseline ms")) == (["11.00"], ["10.00"])
    assert (column(table, "Cells"), column(table, "Flags")) == (["3"], ["c0, c1, c2"])
    (table,) = training_tables(board)
    assert (column(table, "Micro-batch"), column(table, "Cells")) == (["4, 8, 16"], ["3"])
    assert (column(table, "Batch"), column(table, "Steps"), column(table, "Minutes")) == (["16"], ["200"], ["0.6"])
    assert column(table, "Step × baseline") == ["≥ 1.10 (0.50 to 9.50), s0, s1, s2"]


def test_the_batch_that_takes_most_images_a_second_need_not_be_the_largest(made: Any, tmp_path: Path) -> None:
    timed = full(made, 10.0, "fp32-strict", 200.0, batches=(point(16, 200.0), point(32, 180.0)))
    board = leaderboard([made.record(tmp_path, made.split(), throughput=(timed,))], tmp_path)
    assert only_line(board)["best_batch"] == "16"


def test_a_time_on_the_cpu_tells_nothing_of_the_gpu_beside_it_and_each_machine_is_a_table(
    made: Any, tmp_path: Path
) -> None:
    gpu = {"device": "Example GPU", "cuda": "13.0", "cudnn": "9.1", "driver": "600.1"}
    places = [gpu, gpu | {"driver": "700.1"}, gpu | {"cores": 64}, gpu | {"operating_system": "Other"}]
    records = []
    for seed, place in enumerate(places):
        timed = (made.throughput(10.0, device="cpu"), made.throughput(5.0, device="Example GPU"))
        record = made.record(
            tmp_path, made.split(), method="samiro", seed=seed, throughput=timed, environment=made.environment(**place),
            inference_cost=(cost(1.05).model_copy(update={"device": "Example GPU"}),),
        )  # fmt: skip
        records.append(record)
    board = leaderboard(records, tmp_path)
    titles = [table.title for table in timing_tables(board)]
    on_cpu = [title for title in titles if ", CPU; " in title]
    assert len(titles) == 3 + 4
    assert len(on_cpu) == 3  # another driver of the GPU is no other CPU
    assert not any(word in title for title in on_cpu for word in ("GPU", "CUDA", "cuDNN", "driver"))
    for tables in (inference_tables(board), training_tables(board)):
        assert len(tables) == 4
        assert all("driver" in table.title for table in tables)


@pytest.mark.parametrize("change", [{"threads": 1}, {"protocol": "lane-latency/1-short"}, {"device": "Example GPU"}])
def test_costs_at_inference_measured_in_another_way_are_another_table(
    made: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    costs = (cost(1.05), cost(1.5).model_copy(update=change))
    board = leaderboard([made.record(tmp_path, made.split(), method="samiro", inference_cost=costs)], tmp_path)
    assert sorted(column(table, "× baseline")[0][:5] for table in inference_tables(board)) == ["1.050", "1.500"]


def test_tables_compare_in_fp32_strict_though_another_mode_comes_first_in_the_alphabet(board: Leaderboard) -> None:
    (section,) = board.sections
    assert section.timing is not None
    assert section.timing.precision == "fp32-strict"


def test_of_two_protocols_the_full_one_is_compared_in_whatever_its_mode(made: Any, tmp_path: Path) -> None:
    timed = (full(made, 9.0, "amp-bf16", 200.0), made.throughput(10.0))
    (section,) = leaderboard([made.record(tmp_path, made.split(), throughput=timed)], tmp_path).sections
    assert section.timing is not None
    assert (section.timing.protocol, section.timing.precision) == ("lane-latency/1", "amp-bf16")


def test_times_stand_in_one_column_only_where_all_timed_arms_share_their_key(made: Any, tmp_path: Path) -> None:
    records = [
        made.record(tmp_path, made.split(), throughput=(made.throughput(10.0), made.throughput(9.0, threads=1))),
        made.record(tmp_path, made.split(), method="samiro", throughput=(made.throughput(10.0, threads=4),)),
        made.record(tmp_path, made.split(), detector="untimed", throughput=()),
    ]
    (section,) = leaderboard(records, tmp_path).sections
    assert section.timing is None
    (section,) = leaderboard([records[0], records[2]], tmp_path).sections
    assert section.timing is not None


def test_the_short_protocol_s_table_has_no_column_that_it_never_fills(made: Any, tmp_path: Path) -> None:
    short = made.record(tmp_path, made.split())
    (table,) = timing_tables(leaderboard([short], tmp_path))
    assert not set(MEASURED_IN_FULL) & set(table.header)
    resident = made.throughput(10.0, peak_resident_bytes=700 * 2**20)
    other = made.record(tmp_path, made.split(), method="samiro", throughput=(resident,))
    (table,) = timing_tables(leaderboard([short, other], tmp_path))
    assert set(MEASURED_IN_FULL) & set(table.header) == {"Resident MiB"}
    assert column(table, "Resident MiB") == ["", "700"]


def test_what_a_method_costs_at_inference_stands_graph_by_graph(board: Leaderboard) -> None:
    (table,) = inference_tables(board)
    assert column(table, "Method") == ["samiro"] * 2
    assert column(table, "Graph") == ["eager", "compiled"]
    assert column(table, "× baseline") == ["1.060 (1.040 to 1.090)", "1.010 (1.000 to 1.030)"]
    assert "## What methods cost at inference" in to_markdown(board)
    page = to_page(board)
    assert "What methods cost at inference" in page
    assert "1.060 (1.040 to 1.090)" in page


@pytest.mark.parametrize(
    ("protocol", "mode", "shown"),
    [
        ("step-cost/1", "ratio", "≥ 1.50 (1.40 to 1.60)"),
        ("step-cost/2", "ratio", "1.50 (1.40 to 1.60)"),
        ("step-cost/1", "fixed", "1.50 (1.40 to 1.60)"),
    ],
)
def test_a_step_cost_that_left_something_out_is_a_lower_bound(
    made: Any, tmp_path: Path, protocol: Any, mode: str, shown: str
) -> None:
    changes = {"method_configuration": {"kind": "samiro", "lambda_mode": mode}}
    record = made.record(
        tmp_path, made.split(), method="samiro", identity_changes=changes, step_cost=step_cost(protocol=protocol)
    )
    (table,) = training_tables(leaderboard([record], tmp_path))
    assert column(table, "Step × baseline") == [shown]


def test_the_csv_holds_the_same_figures(board: Leaderboard) -> None:
    lines = [line for line in csv.DictReader(io.StringIO(to_csv(board))) if line["kind"] != "gain"]
    baseline, method = lines
    assert (baseline["inference_ratio"], method["inference_ratio"], method["inference_ratio_high"]) == (
        "",
        "1.0600",
        "1.0900",
    )
    assert (method["p50_low_ms"], method["p50_high_ms"], method["best_batch"]) == ("9.7500", "11.5000", "32")
    assert (method["images_per_second_at_16"], method["score_change"]) == ("210.0000", "")
    assert float(method["end_to_end_p50_ms"]) == float(method["pre_p50_ms"]) == float(method["h2d_p50_ms"]) == 10.5
