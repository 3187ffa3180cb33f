"""The round trip of exported files: plain diffusers draws what the studio draws, or it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from inpo_studio.jobs import checks
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from inpo_studio.studio.align.export_checks import (
    CheckItem,
    CheckResult,
    check_state,
    note,
    request_check,
)
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import FORMS
from inpo_studio.transfer.handing_out import Handout, hand_out, ready
from storage.schema import Round
from tests.single_files import build_single_file
from tests.transfer.conftest import Aligned, align

__all__ = ["align"]


def work(studio: Studio, job_id: str) -> list[CheckResult]:
    with embedded_worker(studio.settings):
        ended = studio.engine.wait(job_id, timeout_s=240)
    assert ended.state == "done", ended.error
    return [CheckResult.model_validate(one) for one in ended.result["checks"]]


def items(studio: Studio, handouts: list[Handout]) -> list[CheckItem]:
    return [one.as_item(studio.settings.workspace) for one in handouts]


@pytest.mark.parametrize("kind", ["sd15", "sd2v", "sdxl", "sdxl.safetensors"])
def test_every_form_passes(
    kind: str,
    studio: Studio,
    align: Callable[..., Aligned],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    name, _, single = kind.partition(".")
    model = (
        build_single_file(tiny_model(name), tmp_path / f"{name}.safetensors") if single else None
    )
    made = align(name, alpha=8.0, model=model)
    out = [hand_out(studio, made.round, form) for form in FORMS]
    job_id = request_check(studio, made.round, items(studio, out))
    assert {check_state(studio, one.report).state for one in out} == {"waiting"}
    for result, one in zip(work(studio, job_id), out, strict=True):
        assert (result.form, result.failure) == (one.form, "")
        assert result.passed
        assert result.difference <= 1
        assert result.effect > 8
        state = check_state(studio, one.report)
        assert state.state == "passed"
        assert f"differ by at most {result.difference}/255" in state.sentence
        assert state.sentence.startswith("Loads in plain")


def spoil(path: Path, how: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = dict(load_file(path))
    how(tensors)
    path.unlink()
    save_file(tensors, path)


def test_a_file_of_another_strength_is_told(studio: Studio, align: Callable[..., Aligned]) -> None:
    made = align("sd15", alpha=8.0)
    out = hand_out(studio, made.round, "kohya")

    def weaken(tensors: dict[str, np.ndarray]) -> None:
        for name in tensors:
            if name.endswith(".alpha"):
                tensors[name] = np.asarray(4.0, dtype=np.float32)

    spoil(out.path, weaken)
    (result,) = work(studio, request_check(studio, made.round, items(studio, [out])))
    assert not result.passed
    assert result.difference > 8
    state = check_state(studio, out.report)
    assert state.state == "failed"
    assert "more than rounding" in state.sentence


def test_a_file_that_does_not_load_is_told(studio: Studio, align: Callable[..., Aligned]) -> None:
    made = align("sd15", alpha=8.0)
    out = hand_out(studio, made.round, "diffusers")
    item = out.as_item(studio.settings.workspace)
    file = studio.settings.workspace / item.path
    file.write_bytes(file.read_bytes()[:-64])
    (result,) = work(studio, request_check(studio, made.round, [item]))
    assert not result.passed
    assert check_state(studio, out.report).sentence.startswith("Does not load in plain diffusers: ")
    assert "\n" not in result.sentence


def test_what_is_gone_fails_the_job_in_one_sentence(
    studio: Studio, align: Callable[..., Aligned]
) -> None:
    made = align("sd15", alpha=8.0)
    out = hand_out(studio, made.round, "kohya")
    (item,) = items(studio, [out])
    out.path.unlink()
    job_id = request_check(studio, made.round, [item])
    with embedded_worker(studio.settings):
        ended = studio.engine.wait(job_id, timeout_s=240)
    assert ended.state == "failed"
    state = check_state(studio, out.report)
    assert state.state == "failed"
    assert "export it again" in state.sentence


def test_where_memory_is_too_small_the_cpu_does_it(
    studio: Studio, align: Callable[..., Aligned], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from inpo_studio.diffusion import devices

    made = align("sd15", alpha=8.0)
    tried: list[str] = []
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("meta"))
    context: Any = replace_settings(studio)

    def draw(device: torch.device) -> str:
        tried.append(device.type)
        if device.type != "cpu":
            raise RuntimeError("CUDA out of memory")
        return "drawn"

    assert checks._where_it_fits(context, draw) == "drawn"
    assert tried == ["meta", "cpu"]
    assert made.round.adapter_id


def replace_settings(studio: Studio) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(settings=replace(studio.settings, threads=1))


def test_states_of_a_report(studio: Studio, tmp_path: Path) -> None:
    report = tmp_path / "check.json"
    assert check_state(studio, report).state == "none"
    note(report, {"job_id": "long-forgotten"})
    assert "ask for it again" in check_state(studio, report).sentence
    report.write_text("{", "utf-8")
    assert check_state(studio, report).state == "failed"
    result = CheckResult(form="peft", pictures=4, difference=0, effect=0)
    note(report, {"job_id": "x", "result": result.model_dump()})
    found = check_state(studio, report)
    assert found.state == "passed"
    assert "says little" in found.sentence


def test_a_round_without_an_adapter_is_refused(studio: Studio) -> None:
    from storage.rounds import create_round

    with studio.database.write() as session:
        made = create_round(session, model="postcards", config={}, seed=0)
    with pytest.raises(StudioError, match="has no adapter"):
        request_check(studio, made, [])


def test_an_export_is_made_once_and_anew_when_votes_change_it(
    studio: Studio, align: Callable[..., Aligned]
) -> None:
    from tests.transfer.test_provenance import vote

    made = align("sd15", alpha=8.0)
    assert ready(studio, made.round, "peft") is None
    first = hand_out(studio, made.round, "peft")
    stamp = first.path.stat().st_mtime_ns
    assert hand_out(studio, made.round, "peft") == first
    assert first.path.stat().st_mtime_ns == stamp
    assert first.name == "sd15-round-1-peft.zip"
    note(first.report, {"job_id": "x"})
    vote(studio, made, ["left"] * 3 + ["right"])
    second = hand_out(studio, made.round, "peft")
    assert second.name == "sd15-round-1-wins-75pct-peft.zip"
    assert not first.folder.exists(), "what an older key made stays"
    assert not second.report.exists(), "a check of other files is shown"
    assert ready(studio, made.round, "peft") == second


def test_the_archive_loads_as_it_is_unpacked(
    studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    import zipfile

    made: Round = align("sd15", alpha=8.0).round
    out = hand_out(studio, made, "peft")
    with zipfile.ZipFile(out.path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(tmp_path)
    inner = tmp_path / "sd15-round-1-peft"
    assert sorted(names) == sorted(
        f"{inner.name}/{name}"
        for name in ("README.md", "adapter_config.json", "adapter_model.safetensors")
    )
    assert json.loads((inner / "adapter_config.json").read_text())["lora_alpha"] == 8.0
