"""Reference and policy on the one UNet, and the noise errors a step is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import (
    TARGET_MODULES,
    activate,
    adapter_parameters,
    attach_adapter,
    copy_adapter,
    load_adapter,
    using,
)
from inpo_studio.diffusion.compiling import CompiledUNet
from inpo_studio.diffusion.conditioning import Conditioning, predict_noise
from inpo_studio.diffusion.fitting import AtOnce
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.switching import adapter_config
from inpo_studio.seeds import derive_seed
from inpo_studio.training.dropout import RankDropout

POLICY = "policy"
_PARENT = "parent"


@dataclass(frozen=True)
class Policy:
    """A UNet with a frozen reference and a trainable policy.

    The reference is the round's parent: the base model, or the base with the parent's adapter.
    The policy is one adapter, a copy of the parent's where there is one; its LoRA B is zero
    otherwise, so policy and reference agree at the start either way.
    """

    pipeline: Pipeline
    reference: tuple[str, ...]
    dropout: RankDropout | None = None
    at_once: AtOnce = field(default_factory=AtOnce)
    """How many pictures the reference predicts together."""
    compiled: CompiledUNet | None = None
    """The UNet of training passes, where it is configured to be compiled."""

    @staticmethod
    def build(pipeline: Pipeline, config: RoundConfig, parent: Path | None) -> Policy:
        """Attach the adapters to ``pipeline.unet``; ``parent`` is the parent's adapter folder."""
        unet = pipeline.unet
        seed = derive_seed(config.seed, "adapter")
        if parent is None:
            adapted = TARGET_MODULES[config.adapted_layers]
            attach_adapter(unet, POLICY, config.rank, config.alpha, seed, adapted)
        else:
            load_adapter(unet, _PARENT, parent, trainable=False)
            rank, alpha = _rank_and_alpha(unet, _PARENT)
            adapted = tuple(sorted(adapter_config(unet, _PARENT).target_modules or ()))
            attach_adapter(unet, POLICY, rank, alpha, seed, adapted)
            copy_adapter(unet, _PARENT, POLICY)
        dropout = None
        if config.lora_dropout:
            down = [m for name, m in unet.named_modules() if name.endswith(f".lora_A.{POLICY}")]
            dropout = RankDropout(down, _rank_and_alpha(unet, POLICY)[0], config.lora_dropout)
        reference = (_PARENT,) if parent is not None else ()
        compiled = CompiledUNet(unet) if config.compiled else None
        policy = Policy(pipeline, reference, dropout, compiled=compiled)
        for _, parameter in policy.parameters():
            parameter.requires_grad_(True)
        activate(unet, [POLICY])
        return policy

    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The policy's trainable weights by name, in a stable order."""
        return sorted(adapter_parameters(self.pipeline.unet, POLICY), key=lambda item: item[0])

    def reference_parameters(self) -> dict[str, torch.nn.Parameter]:
        """The weights of the reference's adapter by name; empty where that is the base model."""
        unet = self.pipeline.unet
        return {
            name: parameter
            for reference in self.reference
            for name, parameter in adapter_parameters(unet, reference)
        }

    @property
    def rank(self) -> int:
        return _rank_and_alpha(self.pipeline.unet, POLICY)[0]

    @property
    def alpha(self) -> float:
        return _rank_and_alpha(self.pipeline.unet, POLICY)[1]

    def predict(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        seeds: Tensor | None = None,
    ) -> Tensor:
        """The policy's noise prediction, ``(n, c, h, w)`` float32; gradients flow.

        ``seeds`` ``(pairs,)`` are those of LoRA dropout, where it is configured; None is without.
        Where gradients are wanted it stays until :meth:`settle`: under gradient checkpointing the
        backward pass runs the forward again.
        """
        if self.dropout is not None:
            self.dropout.begin(seeds, len(x_t), x_t.device)
        try:
            with using(self.pipeline.unet, [POLICY]):
                return predict_noise(
                    self.pipeline, x_t, timesteps, conditioning, unet=self.compiled
                )
        finally:
            if not torch.is_grad_enabled():
                self.settle()

    def settle(self) -> None:
        """After the backward pass: nothing of the adapter is left out any more."""
        if self.dropout is not None:
            self.dropout.end()

    @torch.no_grad()
    def predict_reference(
        self, x_t: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """The reference's noise prediction, ``(n, c, h, w)`` float32.

        Raises OutOfMemory where not even one picture fits the device.
        """
        rows = torch.arange(len(x_t))

        def predict(part: slice) -> Tensor:
            told = conditioning.take(rows[part])
            return predict_noise(self.pipeline, x_t[part], timesteps[part], told)

        with using(self.pipeline.unet, list(self.reference)):
            return torch.cat(self.at_once.over(len(x_t), predict, x_t.device))


def _rank_and_alpha(unet: torch.nn.Module, name: str) -> tuple[int, float]:
    config = adapter_config(unet, name)
    return int(config.r), float(config.lora_alpha)
