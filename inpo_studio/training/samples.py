"""Sample pictures of a round: fixed prompts and seeds, drawn again and again to see it move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.adapters import using
from inpo_studio.diffusion.conditioning import Conditioning, empty_conditioning, encode_prompts
from inpo_studio.diffusion.fitting import AtOnce
from inpo_studio.diffusion.latents import decode_latents, initial_noise
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.sampling import ddim_timesteps, denoise
from inpo_studio.training.policy import POLICY

MOST_STEPS = 12
"""DDIM steps of a sample picture at most: enough to see where it goes, at little cost."""


@dataclass(frozen=True)
class SamplePrompt:
    """What a sample picture is drawn from."""

    prompt_id: str
    text: str
    seed: int


@dataclass(frozen=True)
class SamplePlan:
    """All that the sample pictures of a round are drawn from, the same at every step."""

    prompts: tuple[SamplePrompt, ...]
    generation: GenerationConfig


class Sampler:
    """Draws a plan's pictures with the policy, on a pipeline that has released its encoders.

    The VAE is on the device only while it decodes: training has the memory to itself.
    """

    def __init__(self, pipeline: Pipeline, plan: SamplePlan) -> None:
        """Encode the prompts once; the text encoders and the VAE must still be there."""
        self.plan = plan
        self._pipeline = pipeline
        generation = plan.generation
        self._size = (generation.width or pipeline.size[0], generation.height or pipeline.size[1])
        texts = [prompt.text for prompt in plan.prompts]
        self._conditioning = encode_prompts(pipeline, texts, self._size)
        self._unguided = self._encode_unguided()
        self._steps = ddim_timesteps(pipeline.scheduler_config, generation.steps)
        if pipeline.vae is None:
            raise RuntimeError("The VAE was released; load the pipeline again.")
        self._vae = pipeline.vae
        self.at_once = AtOnce(generation.batch_size)
        """How many pictures are denoised together."""

    def _encode_unguided(self) -> Conditioning | None:
        generation = self.plan.generation
        if generation.guidance <= 1.0:
            return None
        if generation.negative_prompt:
            return encode_prompts(self._pipeline, [generation.negative_prompt], self._size)
        return empty_conditioning(self._pipeline, 1, self._size)

    @torch.no_grad()
    def draw(self, on_step: Callable[[], None] = lambda: None) -> list[Image.Image]:
        """One picture for each prompt, by the policy's present weights.

        Draws on no global random state and leaves weights, gradients and active adapters as they
        are. `on_step` is called after every denoising step and may raise to stop. Where memory
        runs out, fewer are drawn together. Raises FloatingPointError when a picture is not finite
        and OutOfMemory when not even one fits.
        """
        pipeline, generation = self._pipeline, self.plan.generation
        prompts = self.plan.prompts

        def latents(chosen: slice) -> Tensor:
            seeds = [prompt.seed for prompt in prompts[chosen]]
            noise = initial_noise(pipeline, seeds, *self._size).to(pipeline.device)
            x_0 = denoise(
                pipeline,
                noise,
                self._conditioning.take(range(len(prompts))[chosen]),
                self._unguided,
                generation.guidance,
                self._steps,
                lambda done: on_step(),
                adapter_on=generation.adapter_on,
            )
            return x_0.float().cpu()

        with using(pipeline.unet, [POLICY]):
            parts = self.at_once.over(len(prompts), latents, pipeline.device)
        with self._decoder():
            return [picture for part in parts for picture in decode_latents(pipeline, part)]

    @contextmanager
    def _decoder(self) -> Iterator[None]:
        """The VAE on the pipeline and its device, for a block."""
        pipeline = self._pipeline
        before, pipeline.vae = pipeline.vae, self._vae.to(pipeline.device)
        try:
            yield
        finally:
            pipeline.vae = before
            self.rest()

    def rest(self) -> None:
        """Take the VAE off the device."""
        if self._pipeline.device.type != "cpu":
            self._vae.to("cpu")
        if self._pipeline.device.type == "cuda":
            torch.cuda.empty_cache()
