from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inpo_studio.inpo.inversion import share_noise
from inpo_studio.inpo.objectives import (
    MAPO_ANCHOR,
    OBJECTIVES,
    diffusion_dpo,
    error,
    inpo,
    ipo,
    kto,
    mapo,
    margin,
    robust,
)

BETA = 2000.0
# MaPO has no reference, and its anchor draws towards the pair's own pictures.
ANTISYMMETRIC = sorted(set(OBJECTIVES) - {"mapo"})
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
    assert torch.allclose(error(a, b), torch.stack(one_by_one).double())
    assert error(a.bfloat16(), b).dtype == torch.float64
    with pytest.raises(ValueError):
        error(a, b[:1])


@pytest.mark.parametrize("name", ["inpo", "diffusion_dpo", "robust"])
def test_at_the_reference_the_loss_is_ln_2_and_the_gradient_is_not_zero(name: str) -> None:
    policy = _Policy()
    noise = {"winner": _draw(0), "loser": _draw(1)}
    loss = OBJECTIVES[name](*policy.errors(noise), ONE, beta=BETA)
    assert loss.shape == (3,)
    assert torch.allclose(loss, torch.full_like(loss, math.log(2)))
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


def test_robust_values_by_hand() -> None:
    """m = -0.3, beta 2, e = 0.2: (0.8 * 0.554355 - 0.2 * 0.854355) / 0.6 = 0.454355."""
    values = [torch.tensor([value]) for value in (0.9, 1.2, 1.0, 1.0)]
    loss = robust(*values, torch.tensor([1.0]), beta=2.0, label_noise=0.2)
    assert float(loss) == pytest.approx(0.454355, abs=1e-5)
    assert robust(*values, torch.tensor([1.0]), beta=2.0) == pytest.approx(0.554355, abs=1e-5)


def test_kto_values_by_hand() -> None:
    """beta 2: v_w = 1.0 - 0.9 = 0.1, v_l = 1.0 - 1.2 = -0.2, their mean is below 0, so z = 0.

    (1 - sigma(0.1) + 1 - sigma(0.2)) / 2 = (0.475021 + 0.450166) / 2 = 0.462593. With the loser's
    error at 0.9 as well, z = 0.1 and both are at their zero point: 0.5.
    """
    values = [torch.tensor([value]) for value in (0.9, 1.2, 1.0, 1.0)]
    one = torch.tensor([1.0])
    assert float(kto(*values, one, beta=2.0)) == pytest.approx(0.462593, abs=1e-5)
    values[1] = torch.tensor([0.9])
    assert float(kto(*values, one, beta=2.0)) == pytest.approx(0.5, abs=1e-6)


def test_mapo_is_ten_times_the_published_loss() -> None:
    """Published: l_w - 0.1 log sigma(1000 (f(l_w) - f(l_l))), f(x) = s x / (e^(s x) - 1)."""

    def f(x: float) -> float:
        return 0.5 * x / (math.exp(0.5 * x) - 1)

    winner, loser = 0.300, 0.302
    log_sigma = -math.log1p(math.exp(-1000 * (f(winner) - f(loser))))
    published = winner - 0.1 * log_sigma
    values = [torch.tensor([value], dtype=torch.float64) for value in (winner, loser, 9.0, 7.0)]
    ours = mapo(*values, torch.tensor([1.0], dtype=torch.float64), beta=500.0)
    assert float(ours) == pytest.approx(10 * published, rel=1e-6)
    assert MAPO_ANCHOR == 10


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_wrong_share_of_clicks_is_the_preference_it_makes(name: str) -> None:
    """Smoothing by e is the loss of the mixture; debiasing undoes it in the mean."""
    f = OBJECTIVES[name]
    errors = [torch.rand(4, generator=torch.Generator().manual_seed(i)) + 0.5 for i in range(4)]
    sure, wrong = torch.ones(4), torch.zeros(4)
    if name == "robust":
        right = f(*errors, sure, beta=3.0)
        mixed = 0.8 * f(*errors, sure, beta=3.0, label_noise=0.2)
        mixed = mixed + 0.2 * f(*errors, wrong, beta=3.0, label_noise=0.2)
        torch.testing.assert_close(mixed, right)
    else:
        mixed = 0.8 * f(*errors, sure, beta=3.0) + 0.2 * f(*errors, wrong, beta=3.0)
        torch.testing.assert_close(f(*errors, sure, beta=3.0, label_noise=0.2), mixed)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_beta_may_differ_by_pair(name: str) -> None:
    f = OBJECTIVES[name]
    errors = [torch.rand(2, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    both = f(*errors, torch.ones(2), beta=torch.tensor([2.0, 5.0]))
    assert both[0] == pytest.approx(float(f(*errors, torch.ones(2), beta=2.0)[0]))
    assert both[1] == pytest.approx(float(f(*errors, torch.ones(2), beta=5.0)[1]))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_swapping_winner_and_loser_negates_the_margin_and_flips_the_preference(name: str) -> None:
    pw, pl, rw, rl = (torch.rand(5, generator=torch.Generator().manual_seed(i)) for i in range(4))
    assert torch.allclose(margin(pw, pl, rw, rl), -margin(pl, pw, rl, rw))
    f, p = OBJECTIVES[name], torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])
    assert torch.allclose(f(pw, pl, rw, rl, p, beta=3.0), f(pl, pw, rl, rw, 1 - p, beta=3.0))


@pytest.mark.parametrize("name", ANTISYMMETRIC)
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


@pytest.mark.parametrize("name", ANTISYMMETRIC)
def test_a_tie_pulls_nowhere_at_the_reference(name: str) -> None:
    policy = _Policy()
    noise = {"winner": _draw(0), "loser": _draw(1)}
    OBJECTIVES[name](*policy.errors(noise), 0.5 * ONE, beta=BETA).mean().backward()
    assert float(policy.shift.grad.abs().max()) < 1e-3
