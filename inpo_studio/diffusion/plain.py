"""Pictures by plain diffusers with an adapter's file, as any program on it draws them.

The other side of a round trip: loading, sampling and adapters of this studio take no part. Only
the initial noise is given, so that both sides start from the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.checkpoints import configuration_folder, inspect_checkpoint
from inpo_studio.diffusion.checkpoints import model_configs as read_model_configs
from inpo_studio.diffusion.families import recognise
from inpo_studio.diffusion.sources import locate

Form = Literal["diffusers", "peft", "kohya"]


class PlainPipeline:
    """A model in float32 as diffusers itself loads it, sampling by DDIM."""

    def __init__(self, model: str, device: torch.device) -> None:
        """Load it. Raises UnsupportedModel for a model that is not there."""
        import diffusers

        source = locate(model)
        configs = read_model_configs(source)
        kind = getattr(diffusers, recognise(configs).diffusers_class)
        more: dict[str, Any] = {"local_files_only": True, "torch_dtype": torch.float32}
        if kind is diffusers.StableDiffusionPipeline:
            # Parts that draw nothing, which the studio does not fetch.
            more |= {"safety_checker": None, "feature_extractor": None}
        with _quiet():
            if source.is_dir():
                more |= {"variant": _variant(source)}
                self.pipe = kind.from_pretrained(source, use_safetensors=True, **more)
            else:
                folder = configuration_folder(source, inspect_checkpoint(source))
                self.pipe = kind.from_single_file(str(source), config=str(folder), **more)
        self.pipe.scheduler = diffusers.DDIMScheduler.from_config(
            dict(configs.scheduler), clip_sample=False
        )
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.to(device)

    def load(self, path: Path, form: Form) -> None:
        """Load an adapter's file, or with `peft` its folder, by the library's own loader."""
        if form == "peft":
            from peft import PeftModel

            self.pipe.unet = PeftModel.from_pretrained(self.pipe.unet, path)
        else:
            with _quiet():
                self.pipe.load_lora_weights(path.parent, weight_name=path.name)

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[Image.Image]:
        """One picture for each prompt and seed, of the width and height in `generation`."""
        scale = self.pipe.vae_scale_factor
        width, height = generation.width or 0, generation.height or 0
        shape = (1, self.pipe.unet.config.in_channels, height // scale, width // scale)
        pictures: list[Image.Image] = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            drawn = self.pipe(
                prompt,
                num_inference_steps=generation.steps,
                guidance_scale=generation.guidance,
                latents=noise,
                width=width,
                height=height,
            )
            pictures += drawn.images
        return pictures


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars, and what is said of parts that are meant to be missing, out of a worker's log."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def _variant(folder: Path) -> str | None:
    """'fp16' where the UNet is there in half precision only."""
    names = [path.name for path in (folder / "unet").glob("*.safetensors")]
    return None if any(name.count(".") == 1 for name in names) else "fp16"
