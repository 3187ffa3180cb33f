"""Scenes drawn by code: one door to the words, captions, layouts and pictures of postcards."""

from __future__ import annotations

from .painting import render
from .scene_captions import caption
from .scene_layout import Layout, layout
from .scene_words import (
    COLOURS,
    PLACES,
    SUBJECTS,
    TIMES,
    WEATHERS,
    Scene,
    held_out,
    random_scene,
)

__all__ = [
    "COLOURS",
    "PLACES",
    "SUBJECTS",
    "TIMES",
    "WEATHERS",
    "Layout",
    "Scene",
    "caption",
    "held_out",
    "layout",
    "random_scene",
    "render",
]
