"""Pairs and comparisons: the rows they leave, and that no repetition doubles them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image as Pillow
from safetensors.numpy import load_file
from sqlalchemy import func, select

from inpo_studio.jobs.pairs import pair_seeds
from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.seeds import Variation
from inpo_studio.studio import Studio
from storage.adapters import add_adapter
from storage.comparisons import get_comparison
from storage.errors import InvalidInput
from storage.images import add_image
from storage.pairs import list_pairs
from storage.prompts import add_prompts
from storage.rounds import IMPORTED, claim_attempt, create_round, get_round
from storage.schema import Comparison, Image, Pair
from tests.jobs.support import GENERATION, MODEL, fake_paint, fake_pipeline


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Replaces the model; lists how many pictures were drawn in each batch."""
    batches: list[int] = []

    def paint(painter: Any, prompts: Any, seeds: Any) -> Any:
        batches.append(len(seeds))
        return fake_paint(painter, prompts, seeds)

    monkeypatch.setattr(Painter, "paint", paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    return batches


def prompt_ids(studio: Studio, *texts: str, kind: Any = "label") -> list[str]:
    with studio.database.write() as session:
        return [prompt.id for prompt in add_prompts(session, texts, source="own", kind=kind)]


def counted(studio: Studio, table: Any) -> int:
    with studio.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def run_job(studio: Studio, kind: str, payload: dict[str, Any], job_id: str | None = None) -> Any:
    job_id = studio.engine.enqueue(kind, payload, job_id)
    with embedded_worker(studio.settings):
        status = studio.engine.wait(job_id, timeout_s=120)
    if status.state != "done":
        raise AssertionError(status.error)
    return status.result


def pairs_payload(prompts: list[str], count: int, **more: Any) -> dict[str, Any]:
    return {
        "prompt_ids": prompts,
        "count": count,
        "seed": 5,
        "generation": GENERATION.model_dump(),
        "model": MODEL,
        "adapter_id": None,
        **more,
    }


def test_pairs_take_the_prompts_in_turn_and_tell_how_they_were_made(
    studio: Studio, painted: list[int]
) -> None:
    prompts = prompt_ids(studio, "a hill", "a lake")
    result = run_job(studio, "pairs", pairs_payload(prompts, 5))
    with studio.database.read() as session:
        made = list_pairs(session)
    assert [pair.id for pair in made] == result["pair_ids"]
    assert [pair.prompt_id for pair in made] == [prompts[i % 2] for i in range(5)]
    assert painted == [4, 4, 2], "two pairs are drawn in one batch"
    for index, pair in enumerate(made):
        images = (pair.first_image, pair.second_image)
        assert tuple(image.seed for image in images) == pair_seeds(5, index)
        for image in images:
            assert (image.model, image.adapter_id, image.guidance) == (MODEL, None, 3.0)
            assert (image.steps, image.width, image.height) == (2, 16, 16)
            assert image.negative_prompt == ""
            with Pillow.open(studio.files.image_path(image.sha256)) as picture:
                assert picture.size == (16, 16)


def test_the_second_picture_of_a_pair_is_a_variation_of_the_first(
    studio: Studio, painted: list[int]
) -> None:
    run_job(
        studio, "pairs", pairs_payload(prompt_ids(studio, "a hill", "a lake"), 3, variation=0.5)
    )
    with studio.database.read() as session:
        made = list_pairs(session)
    for index, pair in enumerate(made):
        first, second = pair_seeds(5, index)
        assert (pair.first_image.seed, pair.first_image.variation_seed) == (first, None)
        assert pair.first_image.variation_strength is None
        assert (pair.second_image.seed, pair.second_image.variation_seed) == (first, second)
        assert pair.second_image.variation_strength == 0.5
        drawn = f"a {('hill', 'lake')[index % 2]}|{Variation(first, second, 0.5)}|None|1.0"
        with Pillow.open(studio.files.image_path(pair.second_image.sha256)) as picture:
            assert picture.getpixel((0, 0)) == tuple(hashlib.sha256(drawn.encode()).digest()[:3])


def test_a_variation_is_never_shown_as_the_picture_of_its_seed(
    studio: Studio, painted: list[int]
) -> None:
    round_id, (prompt,) = with_adapter(studio), prompt_ids(studio, "a hill")
    run_job(studio, "pairs", pairs_payload([prompt], 1, variation=0.5))
    with studio.database.write() as session:
        (pair,) = list_pairs(session)
        # As if the plain picture had never been drawn.
        pair.first_image.seed = 1
        varied = pair.second_image.id
        seed = pair.second_image.seed
    payload = {**comparisons_payload(studio, round_id, [seed]), "prompt_ids": [prompt]}
    result = run_job(studio, "comparisons", payload)
    with studio.database.read() as session:
        made = get_comparison(session, result["comparison_ids"][0])
    assert made.base_image_id != varied
    assert made.base_image.variation_seed is None


def test_half_a_variation_is_refused(studio: Studio, painted: list[int]) -> None:
    (prompt,) = prompt_ids(studio, "a hill")
    columns: dict[str, Any] = {"sha256": "a" * 64, "width": 8, "height": 8, "prompt_id": prompt}
    columns |= {"seed": 1, "model": MODEL, "adapter_id": None, "guidance": 3.0, "steps": 2}
    with studio.database.write() as session, pytest.raises(InvalidInput, match="both or neither"):
        add_image(session, variation_seed=2, **columns)


def test_latents_are_kept_as_training_reads_them(studio: Studio, painted: list[int]) -> None:
    run_job(studio, "pairs", pairs_payload(prompt_ids(studio, "a hill"), 1))
    with studio.database.read() as session:
        image = session.scalars(select(Image)).first()
    assert image is not None
    path = studio.files.path("latents", image.latents_sha256 or "", ".safetensors")
    latents = load_file(path)["latents"]
    assert latents.shape == (1, 4, 4)
    assert latents.dtype == "float32"


def test_pairs_that_are_there_are_not_made_again(
    studio: Studio, painted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = pairs_payload(prompt_ids(studio, "a hill"), 4)
    monkeypatch.setattr(
        "inpo_studio.jobs.context.stable_id", lambda *parts: "-".join(map(str, parts[1:]))
    )
    run_job(studio, "pairs", payload, "once")
    run_job(studio, "pairs", payload, "again")  # with the ids of the first job
    assert painted == [4, 4]
    assert (counted(studio, Pair), counted(studio, Image)) == (4, 8)


def test_seeds_of_pairs_differ() -> None:
    seeds = [seed for index in range(500) for seed in pair_seeds(1, index)]
    assert max(Counter(seeds).values()) == 1
    assert pair_seeds(1, 3) == pair_seeds(1, 3) != pair_seeds(2, 3)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_pairs_on_held_out_prompts_are_refused(studio: Studio, painted: list[int]) -> None:
    prompts = prompt_ids(studio, "a hill", kind="compare")
    with pytest.raises(AssertionError, match="held-out prompts"):
        run_job(studio, "pairs", pairs_payload(prompts, 1))
    assert painted == []


def with_adapter(studio: Studio) -> str:
    """A round that has an adapter; returns its id."""
    (studio.settings.workspace / "adapters" / "one").mkdir(parents=True)
    with studio.database.write() as session:
        made = create_round(session, model=MODEL, config={}, seed=0)
        attempt = claim_attempt(session, made.id)
        add_adapter(
            session,
            sha256="a" * 64,
            folder="adapters/one",
            model=MODEL,
            rank=2,
            alpha=2.0,
            step=3,
            round_id=made.id,
            attempt=attempt,
        )
    return made.id


def test_an_adapter_is_on_the_prompt_unless_its_line_was_imported(
    studio: Studio, painted: list[int]
) -> None:
    round_id = with_adapter(studio)
    payload = comparisons_payload(studio, round_id, [1])
    (first, _) = run_job(studio, "comparisons", payload)["comparison_ids"]
    with studio.database.write() as session:
        made = get_comparison(session, first)
        assert (made.base_image.adapter_on, made.aligned_image.adapter_on) == (None, "prompt")
        get_round(session, round_id).selection = {IMPORTED: {"name": "style"}}
    (again, _) = run_job(studio, "comparisons", payload)["comparison_ids"]
    with studio.database.read() as session:
        now = get_comparison(session, again)
        assert (now.base_image_id, now.aligned_image.adapter_on) == (made.base_image_id, "both")


def test_other_programs_put_an_adapter_on_both(studio: Studio, painted: list[int]) -> None:
    round_id = with_adapter(studio)
    both = {**GENERATION.model_dump(), "adapter_on": "both"}
    payload = {**comparisons_payload(studio, round_id, [1]), "generation": both}
    (made, _) = run_job(studio, "comparisons", payload)["comparison_ids"]
    (usual, _) = run_job(studio, "comparisons", comparisons_payload(studio, round_id, [1]))[
        "comparison_ids"
    ]
    with studio.database.read() as session:
        assert get_comparison(session, made).aligned_image.adapter_on == "both"
        assert get_comparison(session, usual).aligned_image.adapter_on == "prompt"


def comparisons_payload(studio: Studio, round_id: str, seeds: list[int], **more: Any) -> Any:
    return {
        "prompt_ids": prompt_ids(studio, "a sea", "a wood", kind="compare"),
        "seeds": seeds,
        "round_id": round_id,
        "generation": GENERATION.model_dump(),
        "scale": 1.0,
        **more,
    }


def test_comparisons_hold_base_and_aligned_of_the_same_prompt_and_seed(
    studio: Studio, painted: list[int]
) -> None:
    round_id = with_adapter(studio)
    payload = comparisons_payload(studio, round_id, [0, 7])
    result = run_job(studio, "comparisons", payload)
    assert painted == [4, 4]
    with studio.database.read() as session:
        made = [get_comparison(session, made_id) for made_id in result["comparison_ids"]]
    asked = [(prompt, seed) for prompt in payload["prompt_ids"] for seed in (0, 7)]
    assert [(row.prompt_id, row.seed) for row in made] == asked
    for row in made:
        assert row.base_image.adapter_id is None
        assert row.aligned_image.adapter_id == row.adapter_id is not None
        assert row.base_image.seed == row.aligned_image.seed == row.seed
        assert row.base_image.sha256 != row.aligned_image.sha256


def test_what_was_drawn_is_used_again(studio: Studio, painted: list[int]) -> None:
    round_id = with_adapter(studio)
    first = run_job(studio, "comparisons", comparisons_payload(studio, round_id, [0]))
    assert painted == [2, 2]
    again = run_job(studio, "comparisons", comparisons_payload(studio, round_id, [0, 1]))
    assert painted == [2, 2, 2, 2], "only the new seed is drawn"
    assert set(first["comparison_ids"]) < set(again["comparison_ids"])
    run_job(studio, "comparisons", comparisons_payload(studio, round_id, [0], scale=0.5))
    assert painted == [2, 2, 2, 2, 2], "another scale needs new aligned pictures only"
    assert counted(studio, Comparison) == 6


def test_a_round_without_adapter_cannot_be_compared(studio: Studio, painted: list[int]) -> None:
    with studio.database.write() as session:
        made = create_round(session, model=MODEL, config={}, seed=0)
    with pytest.raises(AssertionError, match="has no adapter"):
        run_job(studio, "comparisons", comparisons_payload(studio, made.id, [0]))
