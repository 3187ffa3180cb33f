"""LoRA layers in the one UNet, and which adapters they apply.

PEFT's own switches (set_adapter, enable_adapters, disable_adapters) change requires_grad of every
adapter they touch, so a frozen reference would come back trainable and a policy frozen. Here the
active set is written to the layers directly, and no gradient flag is ever changed in passing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn


@dataclass
class _State:
    layers: list[tuple[str, Any]]
    """The UNet's LoRA layers by module name."""
    names: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()


_states: WeakKeyDictionary[nn.Module, _State] = WeakKeyDictionary()


def inject(unet: nn.Module, name: str, config: LoraConfig) -> None:
    """Add float32, trainable LoRA layers as `config` says; their values are for the caller to set.

    Raises ValueError when the name is taken or the UNet lacks the modules it is made for.
    """
    if name in adapter_names(unet):
        raise ValueError(f"The UNet already has an adapter '{name}'; use another name.")
    # PEFT draws initial values from the global generator, and warns of every further adapter.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        try:
            inject_adapter_in_model(config, unet, adapter_name=name)
        except ValueError as problem:
            _configs(unet).pop(name, None)
            raise ValueError(
                f"The adapter '{name}' was made for another model; load that one."
            ) from problem
    found = [(key, layer) for key, layer in unet.named_modules() if isinstance(layer, LoraLayer)]
    state = _states.setdefault(unet, _State([]))
    state.layers = found
    for _, parameter in adapter_parameters(unet, name):
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    activate(unet, list(state.names), list(state.weights))


def adapter_names(unet: nn.Module) -> list[str]:
    """The adapters attached to the UNet, active or not."""
    return list(_configs(unet))


def adapter_config(unet: nn.Module, name: str) -> LoraConfig:
    """The PEFT configuration of an adapter: rank (r), lora_alpha, target_modules.

    Raises ValueError when there is no such adapter.
    """
    if name not in _configs(unet):
        raise ValueError(f"The UNet has no adapter '{name}'; attach or load it first.")
    return _configs(unet)[name]


def adapter_parameters(unet: nn.Module, name: str) -> list[tuple[str, nn.Parameter]]:
    """The adapter's weights as (module.lora_A.weight, parameter), in the UNet's order.

    Raises ValueError when there is no such adapter.
    """
    adapter_config(unet, name)
    return [
        (f"{key}.{side}.weight", getattr(layer, side)[name].weight)
        for key, layer in _states[unet].layers
        for side in ("lora_A", "lora_B")
        if name in getattr(layer, side)
    ]


def remove_adapter(unet: nn.Module, name: str) -> None:
    """Detach an adapter; it stops being active."""
    adapter_config(unet, name)
    names, weights = active(unet)
    kept = [(n, w) for n, w in zip(names, weights, strict=True) if n != name]
    activate(unet, [n for n, _ in kept], [w for _, w in kept])
    for _, layer in _states[unet].layers:
        layer.delete_adapter(name)
    del _configs(unet)[name]


def active(unet: nn.Module) -> tuple[list[str], list[float]]:
    """The active adapters and their weights; empty lists are the base model."""
    state = _states.get(unet, _State([]))
    return list(state.names), list(state.weights)


def activate(unet: nn.Module, names: Sequence[str], weights: Sequence[float] | None = None) -> None:
    """Make exactly `names` active, each at its weight (1 by default); [] is the base model.

    No requires_grad is changed. Raises ValueError for an adapter that is not attached.
    """
    strengths = tuple(weights) if weights is not None else (1.0,) * len(names)
    if len(strengths) != len(names):
        raise ValueError(f"{len(names)} adapters came with {len(strengths)} weights.")
    for name in names:
        adapter_config(unet, name)
    state = _states.setdefault(unet, _State([]))
    state.names, state.weights = tuple(names), strengths
    for _, layer in state.layers:
        layer._active_adapter = list(names)
        layer._disable_adapters = False
        for name, strength in zip(names, strengths, strict=True):
            layer.set_scale(name, strength)


@contextmanager
def using(
    unet: nn.Module, names: Sequence[str], weights: Sequence[float] | None = None
) -> Iterator[None]:
    """`activate` for the length of a block, then what was active before.

    Under gradient checkpointing the forward is run again in backward: there the adapters active
    at that time count, so leave the policy active outside of such blocks.
    """
    before = active(unet)
    activate(unet, names, weights)
    try:
        yield
    finally:
        activate(unet, *before)


def _configs(unet: nn.Module) -> dict[str, LoraConfig]:
    return cast("dict[str, LoraConfig]", getattr(unet, "peft_config", {}))


@contextmanager
def on_second_half(unet: nn.Module) -> Iterator[None]:
    """For the length of a block, the active adapters act on the second half of every batch alone.

    The first half is predicted as by the base model, in the same pass.
    """

    def first_as_base(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        output[: len(output) // 2] = 0

    names, _ = active(unet)
    layers = _states[unet].layers if names else []
    ups = [layer.lora_B[name] for _, layer in layers for name in names if name in layer.lora_B]
    hooks = [up.register_forward_hook(first_as_base) for up in ups]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
