"""Rounds: planned, started, watched, adopted, and shown as a tree."""
