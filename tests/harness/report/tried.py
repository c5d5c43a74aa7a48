"""Rows of several methods on one detector, and what is to come out where one is held against another."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from harness.records.counts import scope_scores
from harness.report.leaderboard import Leaderboard
from harness.report.site.page import to_page
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard


def oracle(name: str) -> dict[str, Any]:
    return {"configuration": {"name": name}, "dataset": None}


def tried(
    made: Any,
    folder: Path,
    found: dict[str, float],
    *,
    seeds: int = 4,
    oracles: dict[str, dict[str, Any]] | None = None,
    kinds: dict[str, str] | None = None,
) -> dict[str, list[Any]]:
    """Records of a detector trained with methods of these names, all but the baseline of kind samiro if nothing else is said."""
    rows: dict[str, list[Any]] = {}
    for place, (method, share) in enumerate(found.items()):
        kind = (kinds or {}).get(method, "baseline" if method == "baseline" else "samiro")
        changes = {
            "method_configuration": {"kind": kind, "lambda": place},
            "oracle": (oracles or {}).get(method, None if method == "baseline" else oracle("mim:resnet_micro")),
        }
        for seed in range(seeds):
            counts = made.noisy(made.split(240, 60), 100 * place + seed, share)
            record = made.record(folder, counts, method=method, seed=seed, identity_changes=changes)
            rows.setdefault(method, []).append((record, counts))
    return rows


def records_of(rows: dict[str, list[Any]]) -> list[Any]:
    return [record for same in rows.values() for record, _ in same]


def scores_of(rows: dict[str, list[Any]]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return {
        name: np.array([100 * float(scope_scores(counts).f1_50 or 0.0) for _, counts in same])
        for name, same in rows.items()
    }


def influences(row: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How much every clip moves the F1@50 of every seed, in points, as docs/statistics.md defines it."""
    found = []
    for _, counts in row:
        clips = np.unique(counts.clip, return_inverse=True)[1]
        hits = np.bincount(clips, weights=counts.true_positives[:, 0])
        lanes = np.bincount(clips, weights=counts.labels + counts.predictions)
        f1 = 2 * hits.sum() / lanes.sum()
        found.append(100 * (2 * hits - f1 * lanes) / lanes.sum())
    return np.array(found)


def half_width(gains: np.ndarray[Any, Any], influence: np.ndarray[Any, Any]) -> float:
    """Of the 95 % interval, as docs/statistics.md defines it; from 50 equal clips on."""
    seeds, clips = influence.shape
    by_seeds = gains.var(ddof=1) / seeds
    by_clips = clips / (clips - 1) * (influence.mean(axis=0) ** 2).sum()
    both = clips / (clips - 1) * ((influence - influence.mean(axis=0)) ** 2).sum() / (seeds * (seeds - 1))
    t, z = stats.t.ppf(0.975, seeds - 1), stats.norm.ppf(0.975)
    return float(np.sqrt(t**2 * by_seeds + z**2 * max(by_clips - both, 0.0)))


def texts_of(board: Leaderboard) -> list[str]:
    printed = Console(file=io.StringIO(), width=10_000)
    print_leaderboard(board, printed)
    assert isinstance(printed.file, io.StringIO)
    return [to_markdown(board), to_page(board), to_latex(board), printed.file.getvalue()]
