"""Data sets in and out: prompts and choices from files, pairs and comparisons into folders.

Adapters in and out: as files of and for other programs.
"""
