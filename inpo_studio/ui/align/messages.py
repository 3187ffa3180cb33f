"""What the Align page sends: checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from inpo_studio.ui.answering import StudioMessage

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Typed = Annotated[str, StringConstraints(max_length=40, strip_whitespace=True)]
"""What stands in a field of the drawer; empty is what is usual."""
Action = Literal["pause", "resume", "cancel", "finish", "adopt", "revert", "keep"]


class AnyMessage(StudioMessage):
    """What every message says."""

    model_config = ConfigDict(strict=True)


class Drawer(BaseModel):
    """The drawer as it stands, every field as it was typed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    objective: Typed = ""
    steps: Typed = ""
    beta: Typed = ""
    label_noise: Typed = ""
    learning_rate: Typed = ""
    rank: Typed = ""
    batch_pairs: Typed = ""
    compiled: Literal["", "yes"] = ""
    which: Literal["all", "fresh"] = "all"
    annotator: str = Field("", max_length=200)
    """Whose choices; empty is everybody's."""
    parent: Annotated[str, StringConstraints(pattern=r"^(adopted|base|[A-Za-z0-9_-]{1,64})$")] = (
        "adopted"
    )


class Looked(AnyMessage):
    """A look at the page: what it watches, and what of it it knows already."""

    drawer: Drawer = Drawer()
    watch: Id | None = None
    """The round to show; None is the one at work, else the latest."""
    showing: Id | None = None
    """The round whose figures the page has, up to `after_step` of its `attempt`."""
    after_step: int = Field(-1, ge=-1, lt=2**31)
    attempt: int | None = Field(None, ge=0, lt=2**31)
    with_log: bool = False
    knows: dict[Literal["plan", "rounds", "samples"], Annotated[str, Field(max_length=64)]] = Field(
        default_factory=dict
    )
    """Versions of the parts the page has; such a part is left out while it is the same."""


class Started(AnyMessage):
    """The button was pressed."""

    drawer: Drawer = Drawer()


class Asked(AnyMessage):
    """Something is asked of a round; `step` goes with "keep", and "revert" needs no round."""

    action: Action
    round_id: Id | None = None
    step: int | None = Field(None, ge=1, lt=2**31)


class Exported(AnyMessage):
    """A look at what of a round is ready as files; with a form, that one is made ready."""

    round_id: Id
    form: Literal["diffusers", "peft", "kohya"] | None = None
    check: bool = False
    """Whether the form is to be loaded elsewhere and compared."""


class Brought(AnyMessage):
    """A LoRA from elsewhere is named."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)]
    name: Annotated[str, StringConstraints(max_length=80, strip_whitespace=True)] = ""
    ignore_text_encoder: bool = False


class Pushed(AnyMessage):
    """A round's adapter is to be put on the Hub."""

    round_id: Id
    repository: Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]
    public: bool = False
