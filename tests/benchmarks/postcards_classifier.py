"""A classifier of postcards, trained on renders alone, that reads the five attributes of a picture.

It judges generated pictures, so it shares nothing with the generator but the renderer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from inpo_studio.postcards.scenes import (
    COLOURS,
    PLACES,
    SUBJECTS,
    TIMES,
    WEATHERS,
    Scene,
    random_scene,
    render,
)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "place": PLACES,
    "time": TIMES,
    "weather": WEATHERS,
}


def _render(scene: Scene) -> NDArray[np.uint8]:
    return np.asarray(render(scene))


def render_all(scenes: Sequence[Scene], processes: int = 2) -> Tensor:
    """Renders as ``(n, 3, h, w)`` uint8."""
    with ProcessPoolExecutor(processes) as pool:
        pictures = list(
            tqdm(pool.map(_render, scenes, chunksize=64), total=len(scenes), desc="render")
        )
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def labels_of(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Index of each scene's word, ``(n,)`` an attribute."""
    return {
        name: torch.tensor([words.index(getattr(scene, name)) for scene in scenes])
        for name, words in ATTRIBUTES.items()
    }


class Classifier(nn.Module):
    """A small convolutional network with one head an attribute."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128, 160)
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(narrow, wide, 3, stride=2, padding=1),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * widths[-1], len(words)) for name, words in ATTRIBUTES.items()}
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits by attribute from pictures ``(n, 3, h, w)`` in [0, 1]."""
        features = self.features((pictures - 0.5) / 0.25)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pictures: Tensor) -> dict[str, Tensor]:
        """Most likely word's index by attribute from uint8 pictures ``(n, 3, h, w)``."""
        self.eval()
        parts = [self(batch.float() / 255) for batch in pictures.split(128)]
        return {name: torch.cat([part[name] for part in parts]).argmax(1) for name in ATTRIBUTES}


def train_classifier(count: int, epochs: int, seed: int = 0) -> Classifier:
    """Train on ``count`` fresh renders, lightly blurred and noised so that it reads shapes."""
    rng = np.random.default_rng([seed, 77])
    scenes = [random_scene(rng) for _ in range(count)]
    pictures, labels = render_all(scenes), labels_of(scenes)
    torch.manual_seed(seed)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    batch = 64
    total = epochs * (count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=total)
    progress = tqdm(total=total, desc="classifier")
    for _ in range(epochs):
        for rows in torch.randperm(count).split(batch)[: count // batch]:
            inputs = _augment(pictures[rows].float() / 255)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(inputs)
            loss = sum(
                (functional.cross_entropy(logits[n].float(), labels[n][rows]) for n in ATTRIBUTES),
                start=torch.zeros(()),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update()
            progress.set_postfix(loss=f"{float(loss):.3f}")
    return model


def _augment(pictures: Tensor) -> Tensor:
    blurred = functional.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.rand(len(pictures), 1, 1, 1) * 0.7
    noisy = torch.lerp(pictures, blurred, share)
    return (noisy + 0.02 * torch.randn_like(noisy)).clamp(0, 1)
