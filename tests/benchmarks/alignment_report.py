"""Tables and a plot of the alignment benchmark's cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inpo_studio.evaluation.statistics import Tally, win_rate_interval
from tests.benchmarks.plotting import Point, dot_chart
from tests.benchmarks.tastes import STATISTICS, is_random, statistic_of

Row = dict[str, Any]
DRAWS = 2000
BASELINE = "diffusion_dpo"
T_975 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 11: 2.20}
"""Student's t by degrees of freedom: the mean of a few labellings, at 95 %."""


def report(cells: Sequence[Row], plot: Path) -> str:
    """Markdown tables of ``cells``; the win rates by taste are also drawn into ``plot``."""
    learnt = [cell for cell in cells if not is_random(cell["taste"])]
    parts = []
    if learnt:
        parts = [_settings(learnt), _differences(learnt), _tastes(learnt)]
        _draw(learnt, plot)
    chance = [cell for cell in cells if is_random(cell["taste"])]
    if chance:
        parts.append(_random(chance))
    return "\n\n".join(part for part in parts if part)


def _grouped(cells: Sequence[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for cell in cells:
        groups[tuple(cell[name] for name in names)].append(cell)
    return dict(sorted(groups.items(), key=str))


def interval(cells: Sequence[Row], value: Callable[[Sequence[Row]], float]) -> tuple[float, float]:
    """95 % bootstrap interval of ``value``, drawing whole statistics with all their cells: seeds
    and the two directions of one statistic are not independent."""
    groups = list(
        _grouped([{**c, "about": statistic_of(c["taste"])} for c in cells], "about").values()
    )
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        chosen = rng.integers(len(groups), size=len(groups))
        drawn.append(value([cell for index in chosen for cell in groups[index]]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _mean(name: str) -> Callable[[Sequence[Row]], float]:
    return lambda cells: float(np.mean([cell[name] for cell in cells]))


def _by_taste(cells: Sequence[Row]) -> dict[str, float]:
    return {key[0]: _mean("win_rate")(group) for key, group in _grouped(cells, "taste").items()}


def _settings(cells: Sequence[Row]) -> str:
    lines = [
        (
            "| choices | wrong labels | method | cells | mean win rate (95 %) | lowest taste | "
            "faithful, against base | diversity | prepare s | train s | forwards a pair |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, group in _grouped(cells, "choices", "noise", "method").items():
        low, high = interval(group, _mean("win_rate"))
        tastes = _by_taste(group)
        worst = min(tastes, key=tastes.__getitem__)
        faithful = 100 * (_mean("faithful")(group) - _mean("faithful_base")(group))
        prepare = float(np.median([cell["prepare_s"] for cell in group]))
        train = float(np.median([cell["train_s"] for cell in group]))
        lines.append(
            f"| {key[0]} | {key[1]:.0%} | {key[2]} | {len(group)} "
            f"| **{_mean('win_rate')(group):.3f}** ({low:.3f} to {high:.3f}) "
            f"| {worst} {tastes[worst]:.2f} | {faithful:+.1f} points "
            f"| {_mean('diversity')(group):.3f} | {prepare:.1f} | {train:.1f} "
            f"| {_forwards(group)} |"
        )
    return "\n".join(lines)


def _forwards(cells: Sequence[Row]) -> str:
    """UNet forwards a pair; rounds trained together do not count them."""
    counted = [cell for cell in cells if "forwards_a_pair" in cell]
    return f"{_mean('forwards_a_pair')(counted):.1f}" if counted else "–"


def _differences(cells: Sequence[Row]) -> str:
    """Every method against Diffusion-DPO on the cells that both have."""
    known = {_place(cell): cell for cell in cells if cell["method"] == BASELINE}
    paired = [
        {**cell, "difference": cell["win_rate"] - known[_place(cell)]["win_rate"]}
        for cell in cells
        if cell["method"] != BASELINE and _place(cell) in known
    ]
    if not paired:
        return ""
    lines = [
        f"| choices | wrong labels | method | pairs of cells | win rate less {BASELINE}'s (95 %) |",
        "|---|---|---|---|---|",
    ]
    for key, group in _grouped(paired, "choices", "noise", "method").items():
        low, high = interval(group, _mean("difference"))
        lines.append(
            f"| {key[0]} | {key[1]:.0%} | {key[2]} | {len(group)} "
            f"| {_mean('difference')(group):+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return "\n".join(lines)


def _place(cell: Row) -> tuple[Any, ...]:
    own = tuple(cell[name] for name in ("taste", "seed", "choices", "noise", "prompts"))
    return (*own, cell.get("variation", 1.0))


def _tastes(cells: Sequence[Row]) -> str:
    columns = list(_grouped(cells, "choices", "noise", "method"))
    heads = [f"{c}, {n:.0%}, {m}" for c, n, m in columns]
    lines = ["| taste | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    tables = [_by_taste(group) for group in _grouped(cells, "choices", "noise", "method").values()]
    for taste in sorted({cell["taste"] for cell in cells}, key=lambda t: (statistic_of(t), t)):
        row = [f"{table[taste]:.2f}" if taste in table else "" for table in tables]
        lines.append(f"| {taste} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _random(cells: Sequence[Row]) -> str:
    """Random labels lean towards some statistics by chance, and their opposites away from the
    same, so each labelling counts together with its opposite: what is left does not depend on
    the labels."""
    lines = ["Random labels and their opposites: share of pictures with more of each statistic", ""]
    groups = _grouped(cells, "choices", "method")
    heads = [f"{choices}, {method} ({len(g)})" for (choices, method), g in groups.items()]
    lines += ["| statistic | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in STATISTICS:
        row = []
        for group in groups.values():
            rates = [_balanced(labelling, name) for labelling in _labellings(group)]
            half = 0.0 if len(rates) < 2 else float(np.std(rates, ddof=1)) / len(rates) ** 0.5
            half *= T_975.get(len(rates) - 1, 2.2)
            mean = float(np.mean(rates))
            row.append(f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _labellings(cells: Sequence[Row]) -> list[list[Row]]:
    """Cells of one labelling and its opposite, where both are there."""
    told = [{**cell, "about": statistic_of(cell["taste"])} for cell in cells]
    return [both for both in _grouped(told, "seed", "about").values() if len(both) == 2]


def _balanced(labelling: Sequence[Row], name: str) -> float:
    """Mean share of a labelling and its opposite with more of a statistic; ties count half."""
    return float(np.mean([Tally(*cell["tallies"][name]).win_rate for cell in labelling]))


def _draw(cells: Sequence[Row], plot: Path) -> None:
    """The setting with most cells, taste by taste."""
    largest = max(_grouped(cells, "choices", "noise").values(), key=len)
    points = []
    for (method, taste), group in _grouped(largest, "method", "taste").items():
        name, opposite = statistic_of(taste), taste.startswith("-")
        counts = [sum(cell["tallies"][name][k] for cell in group) for k in range(3)]
        if opposite:
            counts[0], counts[1] = counts[1], counts[0]
        tally = Tally(*counts)
        points.append(Point(taste, method, tally.win_rate, *win_rate_interval(tally)))
    points.sort(key=lambda point: (statistic_of(point.row), point.row))
    title = f"{largest[0]['choices']} choices, {largest[0]['noise']:.0%} of them wrong"
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    axis = "share of unseen prompts and seeds that the taste likes better than the base's"
    dot_chart(plot, points, title, axis, marks, guide=0.5)
