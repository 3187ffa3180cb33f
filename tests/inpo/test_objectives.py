from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inpo_studio.inpo.inversion import share_noise
from inpo_studio.inpo.objectives import OBJECTIVES, diffusion_dpo, error, inpo, ipo, margin

BETA = 2000.0
ONE = torch.ones(3)


def _draw(seed: int, n: int = 3) -> Tensor:
    return torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


class _Policy:
    """A policy of one parameter per element; the reference is its starting point."""

    def __init__(self, n: int = 3) -> None:
        self.shift = torch.zeros(4, 4, 4, requires_grad=True)
        self.base = {"winner": _draw(10, n), "loser": _draw(11, n)}

    def errors(self, noise: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        policy = [error(self.base[s] + self.shift, noise[s]) for s in ("winner", "loser")]
        reference = [error(self.base[s], noise[s]) for s in ("winner", "loser")]
        return policy[0], policy[1], reference[0], reference[1]


def test_error_is_the_mean_over_each_image() -> None:
    a, b = _draw(0), _draw(1)
    one_by_one = [(x - y).square().mean() for x, y in zip(a, b, strict=True)]
    assert torch.allclose(error(a, b), torch.stack(one_by_one))
    assert error(a.bfloat16(), b).dtype == torch.float32
    with pytest.raises(ValueError):
        error(a, b[:1])


@pytest.mark.parametrize("name", ["inpo", "diffusion_dpo"])
def test_at_the_reference_the_loss_is_ln_2_and_the_gradient_is_not_zero(name: str) -> None:
    policy = _Policy()
    noise = {"winner": _draw(0), "loser": _draw(1)}
    loss = OBJECTIVES[name](*policy.errors(noise), ONE, beta=BETA)
    assert loss.shape == (3,)
    assert torch.allclose(loss, torch.full((3,), math.log(2)))
    loss.mean().backward()
    assert float(policy.shift.grad.abs().sum()) > 1e-3


def test_logistic_values_by_hand() -> None:
    """m = (0.9 - 1.0) - (1.2 - 1.0) = -0.3; with beta 2, -beta/2 m = 0.3.

    Loss = -log sigma(0.3) = ln(1 + e^-0.3) = 0.554355; for the loser's side ln(1 + e^0.3).
    """
    values = [torch.tensor([value]) for value in (0.9, 1.2, 1.0, 1.0)]
    assert float(margin(*values)) == pytest.approx(-0.3)
    assert float(inpo(*values, torch.tensor([1.0]), beta=2.0)) == pytest.approx(0.554355, abs=1e-5)
    assert float(inpo(*values, torch.tensor([0.0]), beta=2.0)) == pytest.approx(0.854355, abs=1e-5)
    both = float(inpo(*values, torch.tensor([0.5]), beta=2.0))
    assert both == pytest.approx((0.554355 + 0.854355) / 2, abs=1e-5)
    assert diffusion_dpo(*values, torch.tensor([1.0]), beta=2.0) == pytest.approx(0.554355)
    # beta h = 0.3: (0.3 - 0.5)^2 = 0.04
    assert float(ipo(*values, torch.tensor([1.0]), beta=2.0)) == pytest.approx(0.04, abs=1e-6)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_swapping_winner_and_loser_negates_the_margin_and_flips_the_preference(name: str) -> None:
    pw, pl, rw, rl = (torch.rand(5, generator=torch.Generator().manual_seed(i)) for i in range(4))
    assert torch.allclose(margin(pw, pl, rw, rl), -margin(pl, pw, rl, rw))
    f, p = OBJECTIVES[name], torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])
    assert torch.allclose(f(pw, pl, rw, rl, p, beta=3.0), f(pl, pw, rl, rw, 1 - p, beta=3.0))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("source", ["own", "shared", "forward"])
def test_swapping_every_label_flips_the_gradient_at_the_reference(name: str, source: str) -> None:
    """Which picture won must be all the gradient knows: no part of it may stay when labels flip."""

    def gradient(swapped: bool) -> Tensor:
        own = {"winner": _draw(0), "loser": _draw(1) * 0.5}
        if swapped:
            own = {"winner": own["loser"], "loser": own["winner"]}
        noise = dict(own)
        if source == "shared":
            noise = dict.fromkeys(own, share_noise(own["winner"], own["loser"]))
        if source == "forward":
            noise = dict.fromkeys(own, _draw(2))
        policy = _Policy()
        if swapped:
            policy.base = {"winner": policy.base["loser"], "loser": policy.base["winner"]}
        OBJECTIVES[name](*policy.errors(noise), ONE, beta=BETA).mean().backward()
        return policy.shift.grad

    straight, swapped = gradient(False), gradient(True)
    assert float(straight.abs().max()) > 1e-4
    assert torch.allclose(straight, -swapped, rtol=1e-4, atol=1e-6 * float(straight.abs().max()))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_gradient_step_lowers_the_winners_error_against_the_losers(name: str) -> None:
    policy = _Policy()
    noise = {"winner": _draw(0), "loser": _draw(1)}
    OBJECTIVES[name](*policy.errors(noise), ONE, beta=BETA).mean().backward()
    with torch.no_grad():
        policy.shift -= 1e-4 * policy.shift.grad / policy.shift.grad.norm()
    assert float(margin(*policy.errors(noise)).mean().detach()) < 0


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_batch_is_its_pairs_one_by_one(name: str) -> None:
    policy = _Policy()
    noise = {"winner": _draw(0), "loser": _draw(1)}
    errors = [value + 0.01 * i for i, value in enumerate(policy.errors(noise))]
    preference = torch.tensor([1.0, 0.5, 0.8])
    whole = OBJECTIVES[name](*errors, preference, beta=BETA)
    for i in range(3):
        one = slice(i, i + 1)
        alone = OBJECTIVES[name](*(value[one] for value in errors), preference[one], beta=BETA)
        assert torch.allclose(whole[one], alone)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_tie_pulls_nowhere_at_the_reference(name: str) -> None:
    policy = _Policy()
    noise = {"winner": _draw(0), "loser": _draw(1)}
    OBJECTIVES[name](*policy.errors(noise), 0.5 * ONE, beta=BETA).mean().backward()
    assert float(policy.shift.grad.abs().max()) < 1e-3
