"""`python -m inpo_studio.postcards --out DIR`: build the whole family from nothing."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from .recipe import STAGES, Recipe, remember


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inpo_studio.postcards", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the build")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--weights", type=Path, help="where `package` publishes (the package)")
    for field in dataclasses.fields(Recipe):
        if isinstance(field.default, int | float):
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, type=type(field.default), default=field.default)
    return parser


def _builders(weights: Path | None) -> dict[str, Callable[[Recipe, Path], None]]:
    # Imported here: `--help` and a wrong option need not wait for torch.
    from .package import WEIGHTS, build_package
    from .render_set import build_render_set
    from .tokenizer import build_tokenizer
    from .train_decoder import build_decoder
    from .train_finish import build_finish
    from .train_scorer import build_scorer
    from .train_unet import build_unet
    from .train_vae import build_latents, build_vae

    return {
        "renders": build_render_set,
        "tokenizer": build_tokenizer,
        "vae": build_vae,
        "latents": build_latents,
        "decoder": build_decoder,
        "unet": build_unet,
        "finish": build_finish,
        "scorer": build_scorer,
        "package": lambda recipe, out: build_package(recipe, out, weights or WEIGHTS),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that are asked for, in order; each goes on where it was stopped."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    out: Path = options["out"]
    numbers = {f.name: options[f.name] for f in dataclasses.fields(Recipe) if f.name in options}
    out.mkdir(parents=True, exist_ok=True)
    try:
        recipe = Recipe(**numbers)
        remember(recipe, out)
    except ValueError as error:
        parser.error(str(error))
    builders = _builders(options["weights"])
    for stage in STAGES:
        if stage in options["stages"]:
            begun = time.perf_counter()
            builders[stage](recipe, out)
            print(f"{stage}: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
