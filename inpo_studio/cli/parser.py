"""Every command and flag of the terminal, in one place."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from inpo_studio import __version__
from inpo_studio.cli.arguments import count, count_from_zero, port, seeds, strength

OBJECTIVES = ["inpo", "diffusion_dpo", "ipo", "robust", "kto", "mapo"]


class UsageError(ValueError):
    """The command line cannot be read; the message is one sentence."""


class _Parser(argparse.ArgumentParser):
    """Raises one sentence where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}; see {self.prog} --help.")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `inpo-studio`; it imports nothing beyond the standard library."""
    parser = _Parser(
        prog="inpo-studio",
        allow_abbrev=False,
        description="Teach a text-to-image model your taste by picking between two pictures.",
    )
    parser.add_argument("--version", action="version", version=f"inpo-studio {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _shared_flags()
    _add_processes(commands, shared)
    _add_choices(commands, shared)
    _add_rounds(commands, shared)
    _add_adapters(commands, shared)
    return parser


def _shared_flags() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--workspace", metavar="DIR", help="folder of the studio's data (see `inpo-studio doctor`)"
    )
    shared.add_argument(
        "--model",
        metavar="MODEL",
        help="postcards (the default), a folder, a Hub id or a .safetensors file",
    )
    shared.add_argument(
        "--device", metavar="DEVICE", help="auto (the default), cpu, mps, cuda or cuda:N"
    )
    shared.add_argument(
        "--json", action="store_true", help="print exactly one JSON object on standard output"
    )
    return shared


def _add_processes(commands: Any, shared: argparse.ArgumentParser) -> None:
    serve = commands.add_parser("serve", parents=[shared], help="open the studio in the browser")
    serve.add_argument("--host", metavar="HOST", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=port, metavar="PORT", help="port to listen on (7860)")
    serve.add_argument(
        "--no-browser",
        dest="open_browser",
        action="store_const",
        const=False,
        help="do not open a browser",
    )
    serve.add_argument(
        "--annotator", metavar="NAME", help="name that choices and votes are kept under (me)"
    )
    serve.add_argument(
        "--overlap",
        action="store_const",
        const=True,
        help="show everybody every pair, so that several people label the same ones",
    )
    serve.add_argument(
        "--no-worker",
        dest="worker",
        action="store_const",
        const=False,
        help="leave the work to workers that are started elsewhere",
    )
    worker = commands.add_parser(
        "worker", parents=[shared], help="make pairs and train rounds for a workspace"
    )
    worker.add_argument(
        "--slot", type=count_from_zero, default=0, metavar="N", help="number of this worker (0)"
    )
    for command in (serve, worker):
        _add_devices(command)
        _add_variation(command)
    commands.add_parser("doctor", parents=[shared], help="look at what the studio runs on")
    fetch = commands.add_parser(
        "fetch", parents=[shared], help="look at a model of the Hub, say its size and download it"
    )
    fetch.add_argument("name", metavar="MODEL", help="Hub id, folder or .safetensors file")
    fetch.add_argument("--yes", action="store_true", help="download without asking")
    fetch.add_argument(
        "--precision",
        choices=["full", "half"],
        help="of the weights (half on a machine with a GPU, where the model offers both)",
    )


def _add_variation(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--variation",
        metavar="V",
        help="how far apart the two pictures of a pair are: 1 are two seeds, less are variations "
        "of one picture (0.67)",
    )


def _add_choices(commands: Any, shared: argparse.ArgumentParser) -> None:
    pairs = commands.add_parser("pairs", parents=[shared], help="make pairs of pictures and wait")
    pairs.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE", help="text file, one prompt a line"
    )
    pairs.add_argument(
        "--count", type=count, required=True, metavar="N", help="pairs to make over all prompts"
    )
    pairs.add_argument(
        "--seed", type=count_from_zero, metavar="S", help="seed of the pictures (drawn at random)"
    )
    _add_variation(pairs)
    _add_generation(pairs)

    export = commands.add_parser(
        "export", parents=[shared], help="write the pairs as images/ and pairs.jsonl"
    )
    export.add_argument("directory", type=Path, metavar="DIR", help="folder that is new or empty")

    choose = commands.add_parser("choose", parents=[shared], help="record choices from a file")
    choose.add_argument(
        "file",
        type=Path,
        metavar="FILE.jsonl",
        help='a line each: {"pair": ID, "choice": "left|right|tie|both_bad|skip"}',
    )
    choose.add_argument(
        "--annotator", metavar="NAME", help="who chose (as the studio is set, else me)"
    )


def _add_rounds(commands: Any, shared: argparse.ArgumentParser) -> None:
    align = commands.add_parser(
        "align", parents=[shared], help="train an adapter on the choices: one round, to its end"
    )
    align.add_argument("--steps", type=count, metavar="N", help="optimiser steps")
    align.add_argument("--objective", choices=OBJECTIVES, help="what is minimised (inpo)")
    align.add_argument("--seed", type=count_from_zero, metavar="S", help="seed of the round (0)")
    align.add_argument(
        "--adopt", action="store_true", help="make new pairs with the round's model afterwards"
    )
    align.add_argument(
        "--compile",
        action="store_true",
        help="compile the model before the first step, which takes a minute or more",
    )
    align.add_argument("--resume", metavar="ROUND", help="go on with a paused round")
    _add_devices(align)

    compare = commands.add_parser(
        "compare", parents=[shared], help="write base and aligned pictures, same prompts and seeds"
    )
    compare.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE", help="text file, one prompt a line"
    )
    compare.add_argument(
        "--seeds", type=seeds, required=True, metavar="0,1", help="seeds of each prompt"
    )
    compare.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder that is new or empty"
    )
    compare.add_argument(
        "--round", metavar="ROUND", help="round id or number (the adopted one, else the latest)"
    )
    _add_generation(compare)


def _add_adapters(commands: Any, shared: argparse.ArgumentParser) -> None:
    export = commands.add_parser(
        "export-adapter", parents=[shared], help="write a round's adapter for other programs"
    )
    export.add_argument(
        "--format",
        choices=["diffusers", "peft", "kohya"],
        help="one form only (a folder gets all three, a file the kohya form that ComfyUI reads)",
    )
    export.add_argument(
        "--check",
        action="store_true",
        help="load what was written with plain diffusers and compare the pictures",
    )
    merge = commands.add_parser(
        "merge", parents=[shared], help="write the model with a round's adapter merged into it"
    )
    merge.add_argument(
        "--scale", type=strength, default=1.0, metavar="S", help="strength of the adapter (1)"
    )
    for command in (export, merge):
        command.add_argument(
            "--round", metavar="ROUND", help="round id or number (the adopted one, else the latest)"
        )
        command.add_argument(
            "--out",
            type=Path,
            required=True,
            metavar="FILE_OR_DIR",
            help="new file that ends in .safetensors, or a folder that is new or empty",
        )
    _add_sharing(commands, shared)


def _add_sharing(commands: Any, shared: argparse.ArgumentParser) -> None:
    push = commands.add_parser(
        "push-adapter", parents=[shared], help="put a round's adapter on the Hugging Face Hub"
    )
    push.add_argument("round", metavar="ROUND", help="round id or number")
    push.add_argument("repository", metavar="OWNER/NAME", help="repository; made where it is new")
    push.add_argument(
        "--public", action="store_true", help="let everybody see a new repository (private)"
    )
    bring = commands.add_parser(
        "import-adapter", parents=[shared], help="add a LoRA from elsewhere, to start rounds from"
    )
    bring.add_argument(
        "source", metavar="FILE", help=".safetensors file, folder or Hub id of a LoRA"
    )
    bring.add_argument("--name", metavar="NAME", help="what it is called (as the file)")
    bring.add_argument(
        "--ignore-text-encoder",
        action="store_true",
        help="leave out what it changes of the text encoder",
    )
    bring.add_argument(
        "--adopt", action="store_true", help="make new pairs with it, and start rounds from it"
    )


def _add_generation(command: argparse.ArgumentParser) -> None:
    command.add_argument("--guidance", type=float, metavar="G", help="guidance scale (3)")
    command.add_argument(
        "--sampling-steps", type=count, metavar="N", help="DDIM steps of a picture (20)"
    )
    command.add_argument(
        "--adapter-on",
        choices=["prompt", "both"],
        help="what of guidance an adapter changes: the prediction for the prompt (usual), or both, "
        "as other programs do",
    )


def _add_devices(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--processes",
        type=count_from_zero,
        metavar="N",
        help="processes that train a round together, one a card (1); 0 is one for every card",
    )
