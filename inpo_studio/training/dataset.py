"""Frozen choices as tensors: which images won, which lost, for which prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrozenPair:
    """One frozen choice; ``winner`` and ``loser`` are image ids, ``preference`` is in [0.5, 1]."""

    pair_id: str
    prompt: str
    winner: str
    loser: str
    preference: float
    split: str


@dataclass(frozen=True)
class Pairs:
    """``n`` pairs as indices into :class:`TrainingData`; all tensors are ``(n,)``."""

    winner: Tensor
    loser: Tensor
    prompt: Tensor
    preference: Tensor

    def __len__(self) -> int:
        return int(self.winner.shape[0])

    def take(self, indices: Tensor) -> Pairs:
        """The pairs at ``indices`` ``(m,)``, in that order."""
        return Pairs(
            self.winner[indices],
            self.loser[indices],
            self.prompt[indices],
            self.preference[indices],
        )


@dataclass(frozen=True)
class TrainingData:
    """Images, prompts and pairs of one round.

    ``x_0`` is ``(images, c, h, w)`` float32, ``image_ids`` and ``image_prompt`` ``(images,)`` say
    whose latents they are and which prompt each was made for.
    """

    x_0: Tensor
    image_ids: tuple[str, ...]
    image_prompt: Tensor
    prompts: tuple[str, ...]
    train: Pairs
    validation: Pairs


def collate(
    pairs: Sequence[FrozenPair], load_latents: Callable[[Sequence[str]], Tensor]
) -> TrainingData:
    """Index ``pairs``; ``load_latents`` maps image ids to ``(images, c, h, w)`` scaled latents.

    Raises ``ValueError`` when no pair is in the train split.
    """
    image_ids = tuple(dict.fromkeys(i for pair in pairs for i in (pair.winner, pair.loser)))
    prompts = tuple(dict.fromkeys(pair.prompt for pair in pairs))
    image_at = {image: index for index, image in enumerate(image_ids)}
    prompt_at = {prompt: index for index, prompt in enumerate(prompts)}
    prompt_of = {i: prompt_at[pair.prompt] for pair in pairs for i in (pair.winner, pair.loser)}

    def indexed(split: str) -> Pairs:
        chosen = [pair for pair in pairs if pair.split == split]
        return Pairs(
            winner=torch.tensor([image_at[pair.winner] for pair in chosen], dtype=torch.long),
            loser=torch.tensor([image_at[pair.loser] for pair in chosen], dtype=torch.long),
            prompt=torch.tensor([prompt_at[pair.prompt] for pair in chosen], dtype=torch.long),
            preference=torch.tensor([pair.preference for pair in chosen], dtype=torch.float32),
        )

    train = indexed("train")
    if not len(train):
        raise ValueError("This round has no train pairs: label some pairs first.")
    return TrainingData(
        x_0=load_latents(image_ids).float(),
        image_ids=image_ids,
        image_prompt=torch.tensor([prompt_of[image] for image in image_ids], dtype=torch.long),
        prompts=prompts,
        train=train,
        validation=indexed("validation"),
    )
