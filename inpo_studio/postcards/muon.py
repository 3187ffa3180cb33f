"""Muon: momentum whose every matrix is made near-orthogonal before it is applied."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon").
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Push the singular values of each of (n, rows, columns) towards 1, keeping its directions."""
    # bfloat16 is enough here (the iteration is self-correcting) and twice as fast.
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = (x.mT if tall else x).contiguous()
    for _ in range(iterations):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    orthogonal: Tensor = (x.mT if tall else x).float()
    return orthogonal


class Muon(torch.optim.Optimizer):
    """Muon for weights of two and more dimensions, a convolution being (out, in * k * k).

    The update's root mean square is about 0.2 `lr`, so that a rate for AdamW serves here too
    (Liu et al. 2025, "Muon is Scalable for LLM Training").
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; matrices of one shape are made orthogonal together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    shapes[rows, parameter.numel() // rows].append(parameter)
            for (rows, columns), parameters in shapes.items():
                self._step_together(parameters, rows, columns, group["lr"], group["momentum"])

    def _step_together(
        self, parameters: list[nn.Parameter], rows: int, columns: int, lr: float, momentum: float
    ) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            kept = state["momentum"]
            assert parameter.grad is not None
            kept.lerp_(parameter.grad, 1 - momentum)
            directions.append(parameter.grad.lerp(kept, momentum).reshape(rows, columns))
        updates = orthogonalise(torch.stack(directions))
        scale = lr * 0.2 * max(rows, columns) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.add_(update.reshape(parameter.shape), alpha=-scale)
