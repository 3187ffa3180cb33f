"""What is measured at an optimiser step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from inpo_studio.training.errors import PairErrors


@dataclass(frozen=True)
class StepRecord:
    """One row of the metrics; errors are policy minus reference, margins as in the paper.

    A pair is ranked right when its margin is negative: the policy's error fell more (or rose
    less) on the winner than on the loser.
    """

    step: int
    loss: float
    train_ranked_right: float | None
    validation_ranked_right: float | None
    margin: float
    validation_margin: float | None
    winner_error: float
    loser_error: float
    gradient_norm: float
    learning_rate: float
    seconds: float

    @staticmethod
    def of(
        step: int,
        losses: Tensor,
        errors: PairErrors,
        validation: PairErrors | None,
        gradient_norm: float,
        learning_rate: float,
        seconds: float,
    ) -> StepRecord:
        """From the per-pair losses ``(n,)`` and errors of a step, and those of validation."""
        return StepRecord(
            step=step,
            loss=float(losses.mean()),
            train_ranked_right=errors.ranked_right(),
            validation_ranked_right=validation.ranked_right() if validation else None,
            margin=float(errors.margin().mean()),
            validation_margin=float(validation.margin().mean()) if validation else None,
            winner_error=float((errors.policy_winner - errors.reference_winner).mean()),
            loser_error=float((errors.policy_loser - errors.reference_loser).mean()),
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            seconds=seconds,
        )
