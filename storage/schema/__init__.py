"""The tables.

Ids are opaque strings (uuid4 hex), times are aware UTC datetimes. Order is kept by `position`
columns, never by clocks, which may jump. No foreign key cascades: a row that is still named
elsewhere cannot be deleted. Rows load what they name (`pair.prompt`, `pair.first_image`)
together with themselves, so they can be used after the session has ended.
"""

from storage.schema.base import (
    AdapterOn,
    Answer,
    Base,
    PairState,
    PromptSource,
    RoundRequest,
    RoundStage,
    RoundState,
    Side,
    Split,
    new_id,
    utc_now,
)
from storage.schema.labelling import Choice, Image, Pair, Prompt
from storage.schema.results import Comparison, JobProgress, ModelState
from storage.schema.training import Adapter, Metric, Round, RoundPair, Sample
from storage.schema.trials import Trial, TrialItem, Vote

__all__ = [
    "Adapter",
    "AdapterOn",
    "Answer",
    "Base",
    "Choice",
    "Comparison",
    "Image",
    "JobProgress",
    "Metric",
    "ModelState",
    "Pair",
    "PairState",
    "Prompt",
    "PromptSource",
    "Round",
    "RoundPair",
    "RoundRequest",
    "RoundStage",
    "RoundState",
    "Sample",
    "Side",
    "Split",
    "Trial",
    "TrialItem",
    "Vote",
    "new_id",
    "utc_now",
]
