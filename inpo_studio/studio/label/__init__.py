"""Labelling: prompts, pairs, choices, and how far they are."""
