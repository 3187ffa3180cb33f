from __future__ import annotations

import pytest
import torch

from inpo_studio.inpo.preferences import debias_preference, smooth_preference

P = torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_debiasing_undoes_smoothing(noise: float) -> None:
    torch.testing.assert_close(debias_preference(smooth_preference(P, noise), noise), P)


@pytest.mark.parametrize("change", [smooth_preference, debias_preference])
def test_a_tie_stays_a_tie_and_sides_stay_symmetric(change: object) -> None:
    changed = change(P, 0.2)  # type: ignore[operator]
    assert float(changed[2]) == pytest.approx(0.5)
    torch.testing.assert_close(changed, 1 - changed.flip(0))


def test_without_noise_nothing_changes() -> None:
    assert torch.equal(smooth_preference(P, 0.0), P)
    assert torch.equal(debias_preference(P, 0.0), P)


@pytest.mark.parametrize("noise", [-0.1, 0.5, 1.0])
def test_half_of_the_choices_wrong_says_nothing(noise: float) -> None:
    with pytest.raises(ValueError, match="label_noise"):
        smooth_preference(P, noise)
    with pytest.raises(ValueError, match="label_noise"):
        debias_preference(P, noise)
