"""Data sets in and out: prompts and choices from files, pairs and comparisons into folders."""
