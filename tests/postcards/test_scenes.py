"""Scenes: what they promise to captions, trainings and tests of pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from inpo_studio.postcards.scenes import (
    COLOURS,
    PLACES,
    SUBJECTS,
    TIMES,
    WEATHERS,
    Scene,
    caption,
    held_out,
    layout,
    random_scene,
    render,
)

SCENE = Scene("house", "red", "meadow", "noon", "clear", 7)


def _pixels(scene: Scene) -> np.ndarray:
    return np.asarray(render(scene), dtype=np.float32)


def test_render_is_deterministic_and_rgb() -> None:
    first, second = render(SCENE), render(SCENE)
    assert first.mode == "RGB"
    assert first.size == (128, 128)
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("size", [16, 64, 96, 256])
def test_render_sizes(size: int) -> None:
    assert render(SCENE, size).size == (size, size)


def test_render_rejects_tiny_sizes() -> None:
    with pytest.raises(ValueError, match="too small"):
        render(SCENE, 8)


def test_size_changes_detail_not_composition() -> None:
    small = render(SCENE, 128).resize((32, 32), Image.Resampling.BOX)
    large = render(SCENE, 256).resize((32, 32), Image.Resampling.BOX)
    gap = np.abs(np.asarray(small, dtype=np.float32) - np.asarray(large, dtype=np.float32))
    assert gap.mean() < 3.0


@pytest.mark.parametrize("field", ["subject", "colour", "place", "time", "weather"])
def test_unknown_words_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} 'plaid' is unknown"):
        replace(SCENE, **{field: "plaid"})


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        replace(SCENE, seed=-1)


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("place", PLACES)
def test_every_subject_can_be_painted_everywhere(subject: str, place: str) -> None:
    rng = np.random.default_rng(3)
    for time in TIMES:
        weather = WEATHERS[int(rng.integers(len(WEATHERS)))]
        render(Scene(subject, "blue", place, time, weather, int(rng.integers(2**31))), 32)


def test_canonical_caption_holds_all_words() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = random_scene(rng)
        assert all(word in caption(scene) for word in scene.words)
    assert caption(SCENE) == "a red house in a meadow at noon, clear sky"


def test_paraphrases_vary_and_keep_all_words() -> None:
    rng = np.random.default_rng(1)
    said = set()
    scenes = [random_scene(rng) for _ in range(40)]
    for scene in scenes:
        for _ in range(10):
            text = caption(scene, rng)
            assert text == text.lower()
            assert text.isascii()
            stems = [w.rstrip("s") for w in (*scene.words[:2], *scene.words[3:])]
            assert all(stem in text for stem in stems), text
            assert scene.place.rstrip("s") in text, text
            for other in COLOURS:
                assert other == scene.colour or f" {other} " not in text, text
            said.add(text)
    assert len(said) > 350


def test_layout_ignores_colour_and_follows_seed() -> None:
    assert layout(SCENE) == layout(replace(SCENE, colour="blue"))
    assert layout(SCENE) != layout(replace(SCENE, seed=8))


def test_colour_changes_only_the_subject() -> None:
    gap = np.abs(_pixels(SCENE) - _pixels(replace(SCENE, colour="blue"))).max(axis=2)
    lay = layout(SCENE)
    half = int(128 * (lay.subject_width / 2 + 0.05))
    centre = int(128 * lay.subject_x)
    outside = np.ones(128, dtype=bool)
    outside[max(0, centre - half) : centre + half] = False
    assert gap[:, outside].max() == 0
    assert gap.max() > 100


def test_subject_lies_inside_the_picture() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        lay = layout(random_scene(rng))
        assert lay.subject_x - lay.subject_width / 2 > 0
        assert lay.subject_x + lay.subject_width / 2 < 1
        assert lay.subject_base - lay.subject_height > 0
        assert lay.subject_base < 0.95
        assert 0.28 <= lay.subject_height <= 0.5


def test_two_seeds_differ_in_composition() -> None:
    rng = np.random.default_rng(6)
    for _ in range(15):
        scene = random_scene(rng)
        assert np.abs(_pixels(scene) - _pixels(replace(scene, seed=scene.seed + 1))).mean() > 3


@pytest.mark.parametrize("weather", WEATHERS)
def test_night_is_darker_than_noon(weather: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(6):
        scene = replace(random_scene(rng), weather=weather)
        night, noon = (_pixels(replace(scene, time=t)).mean() for t in ("night", "noon"))
        assert night < noon - 20


def test_red_is_redder_than_blue() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        scene = random_scene(rng)
        red, blue = (_pixels(replace(scene, colour=c)).mean(axis=(0, 1)) for c in ("red", "blue"))
        assert red[0] - red[2] > blue[0] - blue[2] + 2


def test_held_out_share_is_fixed_and_seedless() -> None:
    kept = [
        held_out(Scene(s, c, p, t, w, 0))
        for s in SUBJECTS
        for c in COLOURS
        for p in PLACES
        for t in TIMES
        for w in WEATHERS
    ]
    assert 0.03 < sum(kept) / len(kept) < 0.05
    assert held_out(SCENE) == held_out(replace(SCENE, seed=99))
