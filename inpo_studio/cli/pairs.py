"""`inpo-studio pairs`: make pairs of pictures and wait for them."""

from __future__ import annotations

from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import generation_from, opened
from inpo_studio.cli.work import wait_with_bar
from inpo_studio.studio.label.pairs import ready_count, request_pairs
from inpo_studio.transfer.lines import read_prompts


def run(arguments: Any, console: Console) -> int:
    """Make the pairs; the result counts them."""
    texts = read_prompts(arguments.prompts)
    generation = generation_from(arguments)
    with opened(arguments) as studio:
        asked = request_pairs(
            studio, texts, arguments.count, seed=arguments.seed, generation=generation
        )
        made = wait_with_bar(studio, console, asked.job_id, "pair")
        values = {
            "workspace": str(studio.settings.workspace),
            "model": studio.settings.model,
            "made": len(made["pair_ids"]),
            "prompts": asked.prompts,
            "seed": asked.seed,
            "waiting": ready_count(studio),
        }
    console.result(
        values,
        f"{values['made']} pairs on {values['prompts']} prompts, seed {values['seed']}; "
        f"{values['waiting']} wait to be labelled.",
    )
    return 0
