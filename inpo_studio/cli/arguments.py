"""What the terminal's arguments may be; argparse.ArgumentTypeError says what is wrong."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A whole number of at least 1."""
    number = count_from_zero(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return number


def count_from_zero(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def strength(text: str) -> float:
    """An adapter's strength, 0 to 4."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 4.0:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 4")
    return number


def port(text: str) -> int:
    """A port, 0 to 65535."""
    number = count_from_zero(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to 65535")
    return number


def seeds(text: str) -> list[int]:
    """Whole numbers between commas, none twice."""
    seeds = [count_from_zero(part.strip()) for part in text.split(",")]
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text} names a seed twice")
    return seeds
