"""Pairs and comparisons as folders that any program can read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inpo_studio.studio import Studio
from inpo_studio.studio.label.choices import as_stored
from inpo_studio.transfer.folders import new_folder
from storage.choices import live_choices
from storage.files import FileStore
from storage.pairs import list_pairs
from storage.schema import Choice, Comparison, Image, Pair


def export_pairs(studio: Studio, target: Path) -> int:
    """Write images/ and pairs.jsonl into a new folder and return the number of pairs.

    Left is a pair's first picture and right its second, which is also what a file of choices
    means. Where several people chose, the last choice counts. Pairs that were retired without a
    choice are left out. Raises StudioError, with nothing written, when the folder is not free.
    """
    model = studio.settings.model
    with new_folder(target) as folder:
        with studio.database.read() as session:
            chosen = {found.pair_id: found for found in live_choices(session, model)}
            pairs = [
                pair
                for pair in list_pairs(session, model)
                if pair.state == "ready" or pair.id in chosen
            ]
        (folder / "images").mkdir()
        lines = [
            _export_pair(studio.files, folder, pair, chosen.get(pair.id), number)
            for number, pair in enumerate(pairs)
        ]
        write_lines(folder / "pairs.jsonl", lines)
    return len(pairs)


def _export_pair(
    files: FileStore, folder: Path, pair: Pair, choice: Choice | None, number: int
) -> dict[str, Any]:
    names = {"left": f"images/{number:05d}-left.png", "right": f"images/{number:05d}-right.png"}
    _copy(files, pair.first_image, folder / names["left"])
    _copy(files, pair.second_image, folder / names["right"])
    return {
        "pair": pair.id,
        "prompt": pair.prompt.text,
        **names,
        "seeds": {"left": _own_seed(pair.first_image), "right": _own_seed(pair.second_image)},
        "variation": pair.second_image.variation_strength,
        "choice": None if choice is None else as_stored(choice),
        "annotator": None if choice is None else choice.annotator,
        "split": pair.prompt.split,
    }


def _own_seed(image: Image) -> int:
    return image.seed if image.variation_seed is None else image.variation_seed


def export_comparisons(files: FileStore, folder: Path, found: Sequence[Comparison]) -> None:
    """Write base/NNN.png, aligned/NNN.png and index.jsonl into a folder that exists."""
    lines = []
    for kind in ("base", "aligned"):
        (folder / kind).mkdir()
    for number, comparison in enumerate(found):
        names = {kind: f"{kind}/{number:03d}.png" for kind in ("base", "aligned")}
        _copy(files, comparison.base_image, folder / names["base"])
        _copy(files, comparison.aligned_image, folder / names["aligned"])
        lines.append({"prompt": comparison.prompt.text, "seed": comparison.seed, **names})
    write_lines(folder / "index.jsonl", lines)


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, UTF-8."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(text.encode("utf-8"))


def _copy(files: FileStore, image: Image, target: Path) -> None:
    shutil.copyfile(files.image_path(image.sha256), target)
