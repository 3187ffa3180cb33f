"""The pipelines a worker keeps loaded: one model at a time, loaded when a job needs it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from inpo_studio.machine import computing_threads
from inpo_studio.settings import Settings

if TYPE_CHECKING:
    from inpo_studio.diffusion.loading import Pipeline

KEPT_ADAPTERS = 4
"""Adapters that stay attached to the loaded model; older ones are detached."""


class Pipelines:
    """At most one loaded pipeline, with the adapters used last."""

    def __init__(self, settings: Settings) -> None:
        """Remember where to run; torch is not imported before the first `get`."""
        self._settings = settings
        self._loaded: Pipeline | None = None
        self._adapters: list[str] = []

    def get(self, model: str) -> Pipeline:
        """Return the pipeline of a model, loading it in place of another one."""
        if self._loaded is None or self._loaded.model != model:
            import torch

            from inpo_studio.diffusion.loading import load_pipeline

            self.release()
            torch.set_num_threads(computing_threads(self._settings.threads))
            self._loaded = load_pipeline(model, device=self._settings.device)
        return self._loaded

    def holds(self, model: str) -> bool:
        """Whether this model is loaded at the moment."""
        return self._loaded is not None and self._loaded.model == model

    @contextlib.contextmanager
    def using(
        self, pipeline: Pipeline, adapter_id: str | None, folder: Path | None, scale: float = 1.0
    ) -> Iterator[None]:
        """Make one adapter active at `scale` for a block; None is the base model."""
        from inpo_studio.diffusion.adapters import using

        if adapter_id is None or folder is None:
            with using(pipeline.unet, []):
                yield
            return
        self._attach(pipeline, adapter_id, folder)
        with using(pipeline.unet, [adapter_id], [scale]):
            yield

    def release(self) -> None:
        """Free the loaded pipeline, so that a training has the device to itself."""
        if self._loaded is None:
            return
        on_gpu = self._loaded.device.type == "cuda"
        self._loaded, self._adapters = None, []
        gc.collect()
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    def _attach(self, pipeline: Pipeline, adapter_id: str, folder: Path) -> None:
        from inpo_studio.diffusion.adapters import load_adapter, remove_adapter

        if adapter_id in self._adapters:
            self._adapters.remove(adapter_id)
        else:
            while len(self._adapters) >= KEPT_ADAPTERS:
                remove_adapter(pipeline.unet, self._adapters.pop(0))
            load_adapter(pipeline.unet, adapter_id, folder)
        self._adapters.append(adapter_id)
