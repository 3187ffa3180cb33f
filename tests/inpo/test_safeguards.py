from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inpo_studio.inpo.objectives import error
from inpo_studio.inpo.safeguards import loser_scale, scale_gradient, winner_penalty


def _draw(seed: int, n: int = 6) -> Tensor:
    return torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_the_penalty_is_on_a_winner_above_its_reference_alone() -> None:
    """beta 4: 2 * (1.2 - 1.0) = 0.4; a loser above its reference costs nothing."""
    above, below, at = (torch.tensor([value]) for value in (1.2, 0.8, 1.0))
    one = torch.tensor([1.0])
    assert float(winner_penalty(above, above, at, at, one, beta=4.0)) == pytest.approx(0.4)
    assert float(winner_penalty(below, above, at, at, one, beta=4.0)) == 0.0
    tie = winner_penalty(below, above, at, at, 0.5 * one, beta=4.0)
    assert float(tie) == pytest.approx(0.2)
    swapped = winner_penalty(above, below, at, at, 1 - one, beta=4.0)
    assert float(swapped) == 0.0


@pytest.mark.parametrize("mu", [0.0, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("likeness", [-0.9, 0.0, 0.5, 0.95, 1.5])
def test_a_guarded_step_keeps_mu_of_the_winners_descent(mu: float, likeness: float) -> None:
    winner = _draw(0)
    loser = likeness * winner + 0.3 * _draw(1)
    scale = loser_scale(winner, loser, mu)
    assert scale.shape == (6,)
    assert bool(((scale >= 0) & (scale <= 1)).all())
    step = winner - scale.reshape(-1, 1, 1, 1) * loser
    descent = (winner * step).flatten(1).sum(1)
    alone = winner.square().flatten(1).sum(1)
    assert bool((descent >= mu * alone - 1e-4 * alone).all())
    opposed = (winner * loser).flatten(1).sum(1) <= 0
    assert bool((scale[opposed] == 1).all())


def test_mu_is_a_share() -> None:
    with pytest.raises(ValueError, match="mu"):
        loser_scale(_draw(0), _draw(1), 1.1)


def test_scaling_a_gradient_leaves_the_value() -> None:
    prediction = _draw(0).requires_grad_()
    value = error(prediction, _draw(1))
    scale = torch.tensor([0.0, 0.5, 1.0, 0.25, 0.75, 1.0])
    scaled = scale_gradient(value, scale)
    torch.testing.assert_close(scaled, value)
    (plain,) = torch.autograd.grad(value.sum(), prediction, retain_graph=True)
    (changed,) = torch.autograd.grad(scaled.sum(), prediction)
    torch.testing.assert_close(changed, plain * scale.reshape(-1, 1, 1, 1))
