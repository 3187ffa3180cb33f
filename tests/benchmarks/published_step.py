"""The published training step restated: for measuring what it costs, not for training.

Two UNets; all weights of one are trained; x_t by DDIM inversion with the trained one up a grid of
ten, with eta 0.1; the first timestep of a batch decides the depth for all of it. Without its index
beyond the schedule and its timestep -99, which would end the run.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inpo_studio.diffusion.adapters import using
from inpo_studio.diffusion.conditioning import Conditioning
from inpo_studio.diffusion.loading import Pipeline, autocast
from inpo_studio.inpo.inversion import ddim_inverse_step, ddim_sigma, level_above, level_grid
from inpo_studio.inpo.objectives import error, inpo
from inpo_studio.inpo.schedule import implied_noise, noise_from_prediction

LEARNING_RATE = 1.02e-5
ETA = 0.1
LEVELS = 10


@dataclass
class Published:
    """A trained UNet in float32 under autocast, and a frozen one in the pipeline's dtype."""

    pipeline: Pipeline
    policy: nn.Module
    optimizer: torch.optim.AdamW
    beta: float = 2000.0

    @staticmethod
    def build(pipeline: Pipeline) -> Published:
        """``pipeline.unet`` is the reference; the policy is a copy whose every weight trains."""
        policy = copy.deepcopy(pipeline.unet).float().requires_grad_(True).train()
        optimizer = torch.optim.AdamW(policy.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
        return Published(pipeline, policy, optimizer)

    def step(self, x_0: Tensor, conditioning: Conditioning, timestep: int) -> None:
        """One optimiser step on winners then losers ``x_0`` ``(2n, c, h, w)``."""
        schedule = self.pipeline.schedule
        pairs = len(x_0) // 2
        x_t = self._inverted(x_0, conditioning, timestep)
        noise = implied_noise(x_t, x_0, schedule.at(timestep))
        predicted = self._predict(self.policy, x_t, timestep, conditioning)
        with torch.no_grad(), using(self.pipeline.unet, []):
            expected = self._predict(self.pipeline.unet, x_t, timestep, conditioning)
        policy_winner, policy_loser = error(predicted, noise).chunk(2)
        winner, loser = error(expected, noise).chunk(2)
        preference = torch.ones(pairs, device=x_0.device)
        losses = inpo(policy_winner, policy_loser, winner, loser, preference, beta=self.beta)
        losses.mean().backward()
        nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)

    @torch.no_grad()
    def _inverted(self, x: Tensor, conditioning: Conditioning, timestep: int) -> Tensor:
        schedule = self.pipeline.schedule
        levels = level_grid(LEVELS, schedule.num_timesteps)
        depth = int(level_above(levels, torch.tensor([timestep])))
        alpha_bar, label = torch.tensor(schedule.final_alpha_bar, dtype=torch.float64), 0
        for level in levels[: depth + 1]:
            noise = self._predict(self.policy, x, label, conditioning)
            then = schedule.at(level)
            x = ddim_inverse_step(x, noise, alpha_bar, then)
            x = x + ETA * ddim_sigma(then, alpha_bar) * torch.randn_like(x)
            alpha_bar, label = then, level
        return x

    def _predict(
        self, unet: nn.Module, x_t: Tensor, timestep: int, conditioning: Conditioning
    ) -> Tensor:
        dtype = next(unet.parameters()).dtype
        timesteps = torch.full((len(x_t),), timestep, device=x_t.device)
        with autocast(self.pipeline):
            prediction = unet(
                x_t.to(dtype),
                timesteps,
                conditioning.embeddings.to(dtype),
                added_cond_kwargs=conditioning.added,
                return_dict=False,
            )[0]
        schedule = self.pipeline.schedule
        alpha_bar = schedule.at(timesteps.cpu())
        kind = schedule.prediction_type
        return noise_from_prediction(prediction.float(), x_t.float(), alpha_bar, kind)


def held_bytes(networks: list[nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer state, each tensor once."""
    weights = {id(p): p for network in networks for p in network.parameters()}.values()
    state = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
    gradients = [p.grad for p in weights if p.grad is not None]
    return {
        "weights": sum(p.numel() * p.element_size() for p in weights),
        "gradients": sum(g.numel() * g.element_size() for g in gradients),
        "optimizer": sum(s.numel() * s.element_size() for s in state),
    }
