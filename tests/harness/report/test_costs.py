"""Times of the whole protocol in the tables: what stands there only if it was measured, and which mode a table compares in."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from harness.report.cells import MEASURED_IN_FULL, Table, inference_tables, timing_tables, training_tables
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.site.page import to_page
from harness.report.table_csv import to_csv
from harness.report.tables import to_markdown
from harness.timings import BatchPoint, InferenceCost, StepCost


def point(size: int, rate: float) -> BatchPoint:
    return BatchPoint(
        size=size, batch_ms=1e3 * size / rate, images_per_second=rate, peak_memory_bytes=None, peak_reserved_bytes=None
    )


def cost(ratio: float, graph: Any = "eager") -> InferenceCost:
    return InferenceCost(
        protocol="lane-latency/1", graph=graph, device="cpu", threads=2, blocks=40, ratio=ratio, ratio_low=ratio - 0.01,
        ratio_high=ratio + 0.02, model_ms=10 * ratio, baseline_model_ms=10.0,
    )  # fmt: skip


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


def test_tables_compare_in_fp32_strict_though_another_mode_comes_first_in_the_alphabet(board: Leaderboard) -> None:
    (section,) = board.sections
    assert section.timing is not None
    assert section.timing.precision == "fp32-strict"


def test_the_short_protocol_s_table_has_no_column_that_it_never_fills(made: Any, tmp_path: Path) -> None:
    (table,) = timing_tables(leaderboard([made.record(tmp_path, made.split())], tmp_path))
    assert not set(MEASURED_IN_FULL) & set(table.header)


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
    cost = StepCost(
        protocol=protocol, device="cpu", threads=2, precision="fp32", batch_size=16, micro_batch_size=16, blocks=6, ratio=1.5,
        ratio_low=1.4, ratio_high=1.6, seconds_per_step=0.3, baseline_seconds_per_step=0.2, peak_memory_bytes=None,
        baseline_peak_memory_bytes=None,
    )  # fmt: skip
    changes = {"method_configuration": {"kind": "samiro", "lambda_mode": mode}}
    record = made.record(tmp_path, made.split(), method="samiro", identity_changes=changes, step_cost=cost)
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
