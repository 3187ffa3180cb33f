"""Checkpoints are whole or absent, and are not taken up where they do not belong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inpo_studio.training import checkpoint as module
from inpo_studio.training.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint

FACTS = {"configuration": {"rank": 4}}


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"policy.a": torch.full((3,), float(step))}, FACTS)


def test_round_trip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, _checkpoint(7))
    found = latest_checkpoint(tmp_path, FACTS)
    assert found is not None
    assert found.step == 7
    assert torch.equal(found.tensors["policy.a"], torch.full((3,), 7.0))


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere", FACTS) is None


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 20):
        save_checkpoint(tmp_path, _checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000003",
        "checkpoint-000020",
    ]


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, _checkpoint(1))
    newest = save_checkpoint(tmp_path, _checkpoint(2)) / "tensors.safetensors"
    content = newest.read_bytes()
    if damage == "truncate":
        newest.write_bytes(content[:-1])
    elif damage == "flip":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        newest.unlink()
    found = latest_checkpoint(tmp_path, FACTS)
    assert found is not None
    assert found.step == 1


def test_a_kill_while_saving_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, _checkpoint(1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for point in ("save_file", "_sync"):
        with monkeypatch.context() as patch:
            patch.setattr(module, point, killed)
            with pytest.raises(KeyboardInterrupt):
                save_checkpoint(tmp_path, _checkpoint(2))
        found = latest_checkpoint(tmp_path, FACTS)
        assert found is not None
        assert found.step == 1


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, _checkpoint(1))
    with pytest.raises(ValueError, match="start a new round"):
        latest_checkpoint(tmp_path, {"configuration": {"rank": 8}})


def test_a_setting_newer_than_the_checkpoint_is_no_other_configuration(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, _checkpoint(1))
    newer = {"configuration": {"rank": 4, "compiled": False}}
    assert latest_checkpoint(tmp_path, newer) is not None
    save_checkpoint(tmp_path, Checkpoint(2, {}, newer))
    with pytest.raises(ValueError, match="start a new round"):
        latest_checkpoint(tmp_path, FACTS)
