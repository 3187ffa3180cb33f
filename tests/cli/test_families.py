"""Every family from pairs to a file for other programs, by terminal, single files included."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from tests.cli.running import Terminal
from tests.single_files import build_single_file, copy_configurations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

UNSEEN = ["an unseen prompt", "another one"]
SEEDS = [0, 7]
STEPS = 4


@pytest.fixture(params=["sd15", "sd2v.safetensors", "sdxl.safetensors"])
def model(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Any) -> Path:
    """A pipeline folder, or the same as one file with its configurations beside it."""
    kind, _, ending = request.param.partition(".")
    folder: Path = tiny_model(kind)
    return build_single_file(folder, tmp_path / f"{kind}.safetensors") if ending else folder


def label(terminal: Terminal) -> None:
    terminal.write("prompts.txt", "\n".join(f"prompt number {index}" for index in range(4)))
    terminal.ok(
        *("pairs", "--prompts", "prompts.txt", "--count", "8"),
        *("--sampling-steps", str(STEPS), "--seed", "3"),
    )
    terminal.ok("export", "out")
    rows = terminal.read("out/pairs.jsonl")
    chosen = [
        {"pair": row["pair"], "choice": ["left", "right"][i % 2]} for i, row in enumerate(rows)
    ]
    terminal.write("choices.jsonl", "".join(json.dumps(line) + "\n" for line in chosen))
    terminal.ok("choose", "choices.jsonl")


def diffusers_pictures(
    folder: Path, single: bool, lora: Path | None, is_xl: bool | None = None
) -> list[np.ndarray]:
    """The comparison's pictures by plain diffusers, in float32, with an exported file or none."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    is_xl = "sdxl" in folder.name if is_xl is None else is_xl
    kind = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    if single:
        pipe = kind.from_single_file(
            str(folder), config=str(folder.with_suffix("")), local_files_only=True
        )
    else:
        pipe = kind.from_pretrained(folder)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    if lora is not None:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    drawn = []
    for prompt in UNSEEN:
        for seed in SEEDS:
            noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
            image = pipe(prompt, num_inference_steps=STEPS, guidance_scale=3.0, latents=noise)
            drawn.append(np.asarray(image.images[0], dtype=int))
    return drawn


def our_pictures(
    model: Path, adapter: Path | None, adapter_on: Literal["prompt", "both"] = "both"
) -> list[np.ndarray]:
    """The same by this studio, in float32 whatever the CPU likes best."""
    from inpo_studio.configs import GenerationConfig
    from inpo_studio.diffusion.adapters import activate, load_adapter
    from inpo_studio.diffusion.loading import load_pipeline
    from inpo_studio.diffusion.sampling import sample

    pipeline = load_pipeline(str(model), device="cpu", dtype="float32")
    if adapter is not None:
        load_adapter(pipeline.unet, "round", adapter)
        activate(pipeline.unet, ["round"])
    prompts = [prompt for prompt in UNSEEN for _ in SEEDS]
    generation = GenerationConfig(steps=STEPS, adapter_on=adapter_on)
    drawn = sample(pipeline, prompts, SEEDS * len(UNSEEN), generation)
    return [np.asarray(each.image, dtype=int) for each in drawn]


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> int:
    return max(int(abs(one - other).max()) for one, other in zip(ours, theirs, strict=True))


def test_from_pairs_to_a_file_for_other_programs(model: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, str(model))
    label(terminal)
    aligned = terminal.ok("align", "--steps", "8", timeout=1500)
    assert aligned["state"] == "done"
    terminal.write("unseen.txt", "\n".join(UNSEEN))
    terminal.ok(
        *("compare", "--prompts", "unseen.txt", "--out", "compared"),
        *("--seeds", ",".join(map(str, SEEDS)), "--sampling-steps", str(STEPS)),
    )
    rows = terminal.read("compared/index.jsonl")
    base, ours = our_pictures(model, None), our_pictures(model, Path(aligned["adapter"]))
    assert difference(base, ours) > 1
    usual = our_pictures(model, Path(aligned["adapter"]), "prompt")
    for side, expected in (("base", base), ("aligned", usual)):
        shown = [
            np.asarray(Image.open(tmp_path / "compared" / row[side]), dtype=int) for row in rows
        ]
        # The studio draws in bfloat16 where the CPU has it.
        assert np.mean([abs(a - b).mean() for a, b in zip(shown, expected, strict=True)]) < 3
    exported = terminal.ok("export-adapter", "--out", "adapter", "--check")
    assert all(one["passed"] for one in exported["checks"])
    kohya = next(Path(name) for name in exported["files"] if "round-1" in name)
    diffusers = tmp_path / "adapter" / "pytorch_lora_weights.safetensors"
    single = model.suffix == ".safetensors"
    for expected, file in ((base, None), (ours, diffusers), (ours, kohya)):
        assert difference(expected, diffusers_pictures(model, single, file)) <= 1, file
    merged = Path(terminal.ok("merge", "--out", "merged.safetensors")["out"])
    configurations = model.with_suffix("") if single else model
    copy_configurations(configurations, merged.with_suffix(""))
    assert difference(ours, diffusers_pictures(merged, True, None, "sdxl" in model.name)) <= 1


def test_refusals_are_one_sentence(
    tmp_path: Path, tiny_model: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Before and after a round; nothing is written."""
    terminal = Terminal(tmp_path, str(tiny_model("sd15")))
    for command in (("export-adapter", "--out", "new"), ("merge", "--out", "new.safetensors")):
        ended = terminal(*command, "--json")
        assert ended.code == 2
        assert "align" in ended.json["error"]
    taken = terminal.write("taken.safetensors", "")
    for command in (("export-adapter", "--out", taken), ("merge", "--out", taken)):
        ended = terminal(*command, "--json")
        assert ended.code == 2
        assert "already" in ended.json["error"]
    ended = terminal("export-adapter", "--format", "peft", "--out", "x.safetensors", "--json")
    assert "folder" in ended.json["error"]
    ended = terminal("merge", "--out", "new", "--scale", "9", "--json")
    assert "--scale" in ended.json["error"]
    assert not list(tmp_path.glob("new*"))
