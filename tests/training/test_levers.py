"""The levers of a round: off they change nothing, on they do what they say, always resumable."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import predict_noise
from inpo_studio.inpo.frequencies import balanced, frequency_weights
from inpo_studio.inpo.objectives import error
from inpo_studio.inpo.schedule import sigma
from inpo_studio.training.early_stop import EarlyStop
from inpo_studio.training.errors import PairErrors
from inpo_studio.training.loop import StepRecord, Trainer
from inpo_studio.training.rate import learning_rate
from inpo_studio.training.state import restore, save_state
from tests.training.conftest import small_config

NewTrainer = Callable[..., Trainer]


def run(trainer: Trainer) -> list[StepRecord]:
    records: list[StepRecord] = []
    assert trainer.run(lambda: None, records.append, lambda: None) == "done"
    return records


def gradients(trainer: Trainer, step: int = 0) -> list[Tensor]:
    trainer.optimizer.zero_grad()
    for micro in trainer.batches.of_step(step):
        errors = trainer.batches.errors(trainer.policy, micro)
        trainer.batches.losses(errors, micro).sum().backward()
    return [p.grad.clone() for p in trainer.parameters if p.grad is not None]


def shaken(trainer: Trainer, by: float = 0.05) -> Trainer:
    """Away from the reference, where every part of the adapter has a gradient."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.parameters:
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return trainer


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_dropout": 0.5},
        {"learning_rate_decay": "cosine"},
        {"early_stop": 1, "validate_every": 1},
        {"sigma_power": 1.0},
        {"frequency_cutoff": 2.0},
        {"winner_safeguard": "dpop"},
        {"winner_safeguard": "sdpo"},
        {"objective": "kto"},
        {"objective": "mapo"},
        {"objective": "robust", "label_noise": 0.2},
        {"noise_sharing": "midpoint", "noise_mixing": 0.0},
        {"noise_sharing": "own", "inversion_eta": 0.3},
        {"inversion_by": "policy", "inversion_eta": 0.1},
        {"inversion_by": "policy", "noise_sharing": "own", "timesteps": "any", "noise_mixing": 0},
    ],
)
@pytest.mark.parametrize("stop_after", [1, 3])
def test_every_lever_resumes_to_the_same_bytes(
    new_trainer: NewTrainer, tmp_path: Path, changes: dict[str, object], stop_after: int
) -> None:
    config = small_config(**changes, prompt_dropout=0.3)
    whole = new_trainer(config)
    run(whole)
    stopped = new_trainer(config)
    asked = iter([None] * stop_after + ["pause"])
    ending = stopped.run(
        lambda: next(asked),  # type: ignore[arg-type, return-value]
        lambda record: None,
        lambda: save_state(stopped, tmp_path, {}),  # type: ignore[arg-type, return-value]
    )
    resumed = new_trainer(config)
    if ending == "pause":
        assert restore(resumed, tmp_path, {})
        torch.manual_seed(stop_after)
    run(resumed)
    kept, again = whole.adapter_tensors(), resumed.adapter_tensors()
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "kto"},
        {"objective": "robust", "label_noise": 0.2},
        {"label_noise": 0.2},
        {"sigma_power": 1.0},
        {"frequency_cutoff": 2.0},
        {"lora_dropout": 0.5},
        {"inversion_by": "policy", "inversion_eta": 0.1},
        {"timesteps": "any"},
        {"noise_mixing": 0.0},
        {"noise_mixing": 1.0},
    ],
)
def test_flipping_every_label_flips_the_gradient(
    new_trainer: NewTrainer, changes: dict[str, object]
) -> None:
    """No lever may move the model whatever the choices say."""

    def first(swap: bool) -> Tensor:
        # Near timestep 0 implied noise is large, and rounding with it.
        trainer = new_trainer(small_config(**{"lowest_timestep": 200, **changes}))
        if swap:
            pairs = trainer.batches.data.train
            winner, loser = pairs.winner.clone(), pairs.loser.clone()
            pairs.winner.copy_(loser)
            pairs.loser.copy_(winner)
        return torch.cat([gradient.flatten() for gradient in gradients(trainer)])

    straight, flipped = first(False), first(True)
    assert float(straight.abs().max()) > 0
    assert float((straight + flipped).norm() / straight.norm()) < 1e-3


def test_lora_dropout_leaves_out_rank_components(new_trainer: NewTrainer) -> None:
    trainer = shaken(new_trainer(small_config(lora_dropout=0.5)))
    micro = next(trainer.batches.of_step(0))
    rows = torch.arange(len(micro.timestep))

    def predict(seeds: Tensor | None) -> Tensor:
        with torch.no_grad():
            return trainer.policy.predict(
                micro.x_t, micro.timestep, micro.conditioning.take(rows), seeds
            )

    assert micro.seeds is not None
    plain, dropped = predict(None), predict(micro.seeds)
    assert torch.equal(dropped, predict(micro.seeds))
    assert not torch.allclose(plain, dropped, atol=1e-5)
    others = predict(micro.seeds + 1)
    assert not torch.allclose(others, dropped, atol=1e-5)
    # The mean over many draws leads back to the plain prediction, to first order.
    draws = torch.stack([predict(micro.seeds + 10 * k) for k in range(60)]).mean(0)
    assert (draws - plain).norm() < 0.5 * (dropped - plain).norm()


def test_lora_dropout_is_over_after_a_step(new_trainer: NewTrainer) -> None:
    """Pictures drawn between two steps are the whole adapter's."""
    trainer = shaken(new_trainer(small_config(lora_dropout=0.5)))
    micro = next(trainer.batches.of_step(0))
    rows = torch.arange(len(micro.timestep))
    inputs = (micro.x_t, micro.timestep, micro.conditioning.take(rows))
    trainer._backward()
    with torch.no_grad():
        drawn = predict_noise(trainer.policy.pipeline, *inputs)
        assert torch.equal(drawn, trainer.policy.predict(*inputs))


def test_lora_dropout_is_not_for_validation(new_trainer: NewTrainer) -> None:
    with_it = new_trainer(small_config(lora_dropout=0.5)).batches
    trainer = new_trainer(small_config())
    for look in range(2):
        for one, other in zip(
            with_it._validation_level(look), trainer.batches._validation_level(look), strict=True
        ):
            assert one.seeds is None
            assert torch.equal(one.x_t, other.x_t)


@pytest.mark.parametrize("away", [0.0, 0.01])
@pytest.mark.parametrize("changes", [{}, {"lora_dropout": 0.5}, {"noise_sharing": "own"}])
def test_micro_batches_give_the_same_gradient(
    new_trainer: NewTrainer, changes: dict[str, object], away: float
) -> None:
    # Away from the reference the margin is not exactly 0, and beta magnifies the last digits of
    # the network's own arithmetic, which may differ with the size of a batch.
    common = {"lowest_timestep": 200, "beta": 20.0 if away else 2000.0, **changes}
    whole = gradients(shaken(new_trainer(small_config(**common)), away))
    split = gradients(shaken(new_trainer(small_config(**common, micro_batch_pairs=1)), away))
    apart = torch.cat([(a - b).flatten() for a, b in zip(whole, split, strict=True)]).norm()
    assert float(apart / torch.cat([gradient.flatten() for gradient in whole]).norm()) <= 1e-5


@pytest.mark.parametrize("changes", [{}, {"lora_dropout": 0.5}])
def test_gradient_checkpointing_gives_the_same_gradient(
    new_trainer: NewTrainer, changes: dict[str, object]
) -> None:
    plain, frugal = (shaken(new_trainer(small_config(beta=20.0, **changes))) for _ in range(2))
    frugal.policy.pipeline.unet.enable_gradient_checkpointing()
    for own, again in zip(gradients(plain), gradients(frugal), strict=True):
        torch.testing.assert_close(own, again, rtol=1e-4, atol=1e-7)


def test_micro_batches_give_the_same_adapter(new_trainer: NewTrainer) -> None:
    both = [
        new_trainer(small_config(lowest_timestep=200, micro_batch_pairs=size)) for size in (4, 1)
    ]
    for trainer in both:
        run(trainer)
    whole, split = (
        torch.cat([tensor.flatten() for tensor in trainer.adapter_tensors().values()])
        for trainer in both
    )
    # Adam divides by a gradient's size, so that one that is almost 0 shows its last digits.
    assert float((whole - split).norm() / whole.norm()) < 1e-4


def test_learning_rate_warms_up_and_comes_down() -> None:
    common = {"steps": 12, "warmup_steps": 2, "learning_rate": 1.0}

    def rates(decay: str) -> list[float]:
        config = RoundConfig.model_validate({**common, "learning_rate_decay": decay})
        return [learning_rate(config, step) for step in range(12)]

    assert rates("none") == [0.5, *[1.0] * 11]
    assert rates("linear") == pytest.approx([0.5, 1.0, *[1 - k / 10 for k in range(10)]])
    cosine = rates("cosine")
    assert cosine[:3] == [0.5, 1.0, 1.0]
    assert cosine[7] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in itertools.pairwise(cosine[2:]))
    assert learning_rate(RoundConfig(warmup_steps=0), 0) == RoundConfig().learning_rate


def test_early_stop_keeps_the_lowest_and_gives_up() -> None:
    stop = EarlyStop(2, ["a"])
    for step, loss in [(10, 0.6), (20, 0.5), (30, 0.55)]:
        stop.seen(step, loss, {"a": torch.tensor([float(step)])})
    assert not stop.over
    again = EarlyStop(2, ["a"])
    again.restore(stop.state())
    for each in (stop, again):
        each.seen(40, 0.5, {"a": torch.tensor([40.0])})
        assert each.over
        assert (each.best_step, float(each.best["a"])) == (20, 20.0)
    assert EarlyStop(2, ["a"]).state() == {}


def test_an_early_stop_ends_the_round_with_its_best(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(small_config(steps=20, early_stop=2, validate_every=1))
    losses = iter([0.5, 0.4, 0.45, 0.41])
    monkeypatch.setattr(trainer.batches, "validation_loss", lambda errors: next(losses))
    seen: dict[int, Tensor] = {}

    def on_step(record: StepRecord) -> None:
        seen[record.step] = trainer.parameters[1].detach().clone()

    assert trainer.run(lambda: None, on_step, lambda: None) == "done"
    assert trainer.step == 4
    assert torch.equal(trainer.parameters[1], seen[2])
    assert not torch.equal(seen[2], seen[4])
    kept = trainer.adapter_tensors()
    assert torch.equal(kept[trainer.names[1]], seen[2])


def test_sigma_power_weighs_by_level(new_trainer: NewTrainer) -> None:
    plain, weighed = new_trainer(small_config()), new_trainer(small_config(sigma_power=2.0))
    micro = next(plain.batches.of_step(0))
    errors = PairErrors(*(torch.full((4,), value) for value in (0.9, 1.2, 1.0, 1.0, 1.0, 0.0)))
    schedule, grid = plain.batches.schedule, torch.tensor(plain.batches.grid)
    squared = sigma(schedule.alpha_bar).square()
    weights = squared[micro.timestep] / squared[grid].mean()
    expected = -torch.nn.functional.logsigmoid(0.5 * plain.config.beta * weights.float() * 0.3)
    torch.testing.assert_close(weighed.batches.losses(errors, micro), expected)


def test_errors_are_weighed_by_frequency_and_balanced_over_the_pairs(
    new_trainer: NewTrainer,
) -> None:
    plain = new_trainer(small_config(frequency_cutoff=0.0))
    weighed = new_trainer(small_config(frequency_cutoff=1.0))
    micro = next(weighed.batches.of_step(0))
    assert micro.weights is not None
    assert next(plain.batches.of_step(0)).weights is None
    data = weighed.batches.data
    differences = data.x_0[data.train.winner] - data.x_0[data.train.loser]
    expected = balanced(
        frequency_weights(differences.shape[-2], differences.shape[-1], 1.0), differences
    )
    torch.testing.assert_close(micro.weights, expected)
    policy, rows = shaken(weighed).policy, torch.arange(len(micro.timestep)).repeat(micro.looks)
    told = micro.conditioning.take(rows)
    prediction = policy.predict(micro.x_t, micro.timestep[rows], told).chunk(micro.looks)
    found = weighed.batches.errors(policy, micro)
    torch.testing.assert_close(found.policy_winner, error(prediction[0], micro.noise[0], expected))


def test_dpop_adds_to_the_loss_of_a_winner_that_got_worse(new_trainer: NewTrainer) -> None:
    plain = new_trainer(small_config(beta=2.0))
    strict = new_trainer(small_config(beta=2.0, winner_safeguard="dpop", safeguard_strength=3.0))
    micro = next(plain.batches.of_step(0))
    for winner, more in ((1.2, 3.0 * 0.2), (0.8, 0.0)):
        errors = PairErrors(*(torch.full((4,), v) for v in (winner, 1.5, 1.0, 1.0, 1.0, 0.0)))
        added = strict.batches.losses(errors, micro) - plain.batches.losses(errors, micro)
        torch.testing.assert_close(added, torch.full((4,), more))


def test_sdpo_changes_the_gradient_and_not_the_loss(new_trainer: NewTrainer) -> None:
    plain = shaken(new_trainer(small_config()))
    guarded = shaken(new_trainer(small_config(winner_safeguard="sdpo", safeguard_strength=0.9)))
    errors = [t.batches.errors(t.policy, next(t.batches.of_step(0))) for t in (plain, guarded)]
    torch.testing.assert_close(errors[0].policy_loser, errors[1].policy_loser)
    torch.testing.assert_close(errors[0].policy_winner, errors[1].policy_winner)
    one, other = gradients(plain), gradients(guarded)
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(one, other, strict=True))
    with pytest.raises(ValueError, match="at most 1"):
        RoundConfig(winner_safeguard="sdpo", safeguard_strength=1.5)


def test_the_published_method_is_a_configuration() -> None:
    config = RoundConfig.published(steps=7)
    assert config.steps == 7
    assert (config.noise_sharing, config.inversion_by, config.timesteps) == ("own", "policy", "any")
    assert not config.needs_inversion
    assert not config.shares_x_t
    assert RoundConfig.model_validate(config.model_dump()) == config
