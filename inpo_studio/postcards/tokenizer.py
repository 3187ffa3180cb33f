"""A CLIP tokenizer of our own: byte-level BPE over the captions' words, any text allowed."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import CLIPTokenizer

from .checkpointing import publish, rng_for
from .recipe import MAX_TOKENS, Recipe
from .scenes import caption, random_scene

BOS = "<|startoftext|>"
EOS = "<|endoftext|>"
_WORD_END = "</w>"
_CAPTIONS = 20_000


def _learn_merges(words: list[str], room: int) -> list[tuple[str, str]]:
    """Learn at most `room` BPE merges from a list of captions."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    # CLIPTokenizer's own splitting, which for our captions is: words and punctuation.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=512 + room,
        min_frequency=2,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(words, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(str(a), str(b)) for a, b in merges][:room]


def make_tokenizer(seed: int, vocabulary: int, captions: int = _CAPTIONS) -> CLIPTokenizer:
    """Train the tokenizer on paraphrased captions of random scenes.

    Its vocabulary is CLIP's in small: 256 bytes, 256 bytes that end a word, the merges, then
    the start and the end token. Every byte is a token, so that no text is unknown.
    """
    rng = rng_for(seed, "tokenizer", 0)
    texts = [caption(random_scene(rng), rng) for _ in tqdm(range(captions), desc="captions")]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + _WORD_END for letter in letters]
    merges = _learn_merges(texts, vocabulary - len(tokens) - 2)
    known = set(tokens)
    for left, right in merges:
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
    tokens += [BOS, EOS]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_TOKENS,
    )


def build_tokenizer(recipe: Recipe, out: Path) -> None:
    """Train the tokenizer and publish it at `out`/tokenizer, unless it is there."""
    path = out / "tokenizer"
    if path.exists():
        return
    tokenizer = make_tokenizer(recipe.seed, recipe.vocabulary)
    publish(path, lambda part: tokenizer.save_pretrained(part))
