"""Files of prompts and choices, read and checked whole."""

from __future__ import annotations

from pathlib import Path

from inpo_studio.studio.label.choices import ImportedChoice
from inpo_studio.transfer.lines import read_choices, read_prompts


def test_prompts_are_trimmed_folded_and_otherwise_as_typed(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    odd = ["<b>${x}</b>", "ein Häuschen \u2028 im Wald"]
    typed = ["  a house ", "# a remark", "", *odd, "a house"]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(typed).encode())
    assert read_prompts(path) == ["a house", *odd]


def test_choices_carry_their_line_and_null_is_none_yet(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    path.write_text(
        '{"pair": "a", "choice": "left", "prompt": "ignored"}\n\n{"pair": "b", "choice": null}\n'
        '{"pair": "c", "choice": "both_bad"}'
    )
    assert read_choices(path) == [
        ImportedChoice(1, "a", "left"),
        ImportedChoice(4, "c", "both_bad"),
    ]
