"""All rounds of a model as a tree: who started from whom, what each learnt, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inpo_studio.evaluation.statistics import Tally, win_rate_interval
from inpo_studio.studio import Studio
from inpo_studio.studio.align.imported import Imported, imported_from, trained
from inpo_studio.studio.align.planning import default_config
from inpo_studio.studio.align.round_facts import Check, Counts, Facts, Picture, read_facts
from inpo_studio.studio.align.round_words import SETTINGS, Tone, chip, value_text
from storage import model_states, rounds
from storage.schema import Adapter, Round
from storage.transitions import REQUESTS, WORKED_ON

THUMBNAILS = 3
_FOLLOWING = frozenset({"alpha", "micro_batch_pairs", "sample_every", "seed"})
"""Settings that follow others (or nothing), so that they are no choice of anybody's."""


@dataclass(frozen=True)
class Setting:
    """One setting of a round, as text; `changed` where it is not what is usual."""

    label: str
    value: str
    changed: bool


@dataclass(frozen=True)
class Kept:
    """Weights of a round at a step, and the share of validation pairs they rank right."""

    step: int
    used: bool
    ranked_right: float | None


@dataclass(frozen=True)
class RoundCard:
    """A round in the tree."""

    id: str
    number: int
    depth: int
    state: str
    state_word: str
    tone: Tone
    adopted: bool
    parent_number: int | None
    which: str
    annotators: list[str]
    choices: int
    validation_pairs: int
    settings: list[Setting]
    ranked_right: float | None
    """Share of validation pairs ranked right by the weights that are used."""
    interval: tuple[float, float] | None
    """95 % score interval of that share."""
    margin: float | None
    step: int
    total_steps: int
    kept_step: int | None
    seconds: float
    """Time spent on its steps; like `step` it is told of rounds at rest only."""
    failure: str
    thumbnails: list[Picture]
    kept: list[Kept]
    actions: list[str]
    imported: Imported | None
    """Where the adapter is from; None where it was trained here."""


@dataclass(frozen=True)
class Lineage:
    """The rounds in the order they are shown, and whether one is adopted."""

    rounds: list[RoundCard]
    adopted_number: int | None
    at_work: bool
    """Whether one of them waits for the worker or is worked on."""


def lineage(studio: Studio) -> Lineage:
    """Read the tree in one transaction: newest root first, children below their parent."""
    model = studio.settings.model
    with studio.database.read() as session:
        found = rounds.list_rounds(session, model)
        adopted = model_states.adopted_round(session, model)
        facts = read_facts(session, model)
    by_id = {row.id: row for row in found}
    adopted_id = None if adopted is None else adopted.id
    cards = [
        _card(row, depth, by_id.get(row.parent_id or ""), row.id == adopted_id, facts)
        for row, depth in in_order(found)
    ]
    return Lineage(
        cards, None if adopted is None else adopted.number, any(not _rests(row) for row in found)
    )


def in_order(found: Sequence[Round]) -> list[tuple[Round, int]]:
    """Return rounds with their depth in the tree, newest first among those of one parent."""
    known = {row.id for row in found}
    children: dict[str | None, list[Round]] = {}
    for row in found:
        parent = row.parent_id if row.parent_id in known else None
        children.setdefault(parent, []).append(row)
    ordered: list[tuple[Round, int]] = []
    waiting = [(row, 0) for row in children.get(None, [])]
    while waiting:
        row, depth = waiting.pop()
        ordered.append((row, depth))
        waiting += [(child, depth + 1) for child in children.get(row.id, [])]
    return ordered


def actions_of(row: Round) -> list[str]:
    """Return what can be asked of a round in its state."""
    asked = {"pausing": "pause", "cancelling": "cancel", "finishing": "finish"}.get(row.state)
    able: list[str] = [
        name
        for name, states in REQUESTS.items()
        if row.state in states and name != asked and not _pointless(name, row)
    ]
    if row.state in ("paused", "failed"):
        able.append("resume")
    if row.state == "done" and row.adapter_id is not None:
        able += ["adopt", "branch", "compare", "export"]
    return able


def first_line(failure: str | None) -> str:
    """Return the sentence of a failure, without the log that may follow it."""
    lines = (failure or "").strip().splitlines()
    return lines[0].removesuffix(" The end of its log:") if lines else ""


def _rests(row: Round) -> bool:
    return row.state != "queued" and row.state not in WORKED_ON


def _pointless(name: str, row: Round) -> bool:
    """A wish that the state allows but that would change nothing, or nothing one wants."""
    return row.state == "cancelled" or (name == "pause" and row.state == "paused")


def _card(row: Round, depth: int, parent: Round | None, adopted: bool, facts: Facts) -> RoundCard:
    counts = facts.counts.get(row.id, Counts(0, 0))
    checks = facts.checks.get(row.id, {})
    adapters = facts.adapters.get(row.id, [])
    used = next((adapter for adapter in adapters if adapter.id == row.adapter_id), None)
    last = used.step if used is not None else max(checks, default=0)
    check = checks.get(last) or checks.get(max(checks, default=0)) or Check(None, None)
    selection = row.selection or {}
    word, tone = chip(row.state, row.stage)
    rests = _rests(row)  # else it changes all the time
    return RoundCard(
        id=row.id,
        number=row.number,
        depth=depth,
        state=row.state,
        state_word=word,
        tone=tone,
        adopted=adopted,
        parent_number=None if parent is None else parent.number,
        which=selection.get("which") or "all",
        annotators=list(selection.get("annotators") or []),
        choices=counts.train,
        validation_pairs=counts.checked,
        settings=_settings(row, counts.train),
        ranked_right=check.ranked_right,
        interval=_interval(check.ranked_right, counts.checked),
        margin=check.margin,
        step=row.step if rests else 0,
        total_steps=row.total_steps,
        kept_step=None if used is None else used.step,
        seconds=facts.seconds.get(row.id, 0.0) if rests else 0.0,
        failure=first_line(row.failure),
        thumbnails=facts.samples.get(row.id, [])[:THUMBNAILS],
        kept=_kept(adapters, row.adapter_id, checks),
        actions=actions_of(row),
        imported=imported_from(row),
    )


def _settings(row: Round, choices: int) -> list[Setting]:
    if not trained(row):
        names = ("rank", "alpha")
        return [Setting(SETTINGS[n], value_text(n, row.config[n]), False) for n in names]
    usual = default_config(max(1, choices)).model_dump()
    follow = set(_FOLLOWING)
    shown = {**row.config, "seed": row.seed}
    if row.parent_id is not None:
        follow |= {"rank", "adapted_layers"}
        shown["adapted_layers"] = "those of the round it starts from"
    if not choices:
        follow |= {"steps", "batch_pairs"}
    return [
        Setting(
            SETTINGS.get(name, name.replace("_", " ")),
            value_text(name, value),
            name in usual and value != usual[name] and name not in follow,
        )
        for name, value in shown.items()
    ]


def _interval(ranked_right: float | None, checked: int) -> tuple[float, float] | None:
    if ranked_right is None or not checked:
        return None
    right = round(ranked_right * checked)
    return win_rate_interval(Tally(right, checked - right))


def _kept(
    adapters: Sequence[Adapter], used_id: str | None, checks: Mapping[int, Check]
) -> list[Kept]:
    """Return one entry a step; the last weights are kept twice, as snapshot and as result."""
    used = {adapter.step for adapter in adapters if adapter.id == used_id}
    return [
        Kept(step, step in used, checks[step].ranked_right if step in checks else None)
        for step in sorted({adapter.step for adapter in adapters})
        if step > 0
    ]
