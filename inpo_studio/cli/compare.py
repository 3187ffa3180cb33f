"""`inpo-studio compare`: base and aligned pictures of the same prompts and seeds."""

from __future__ import annotations

from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import generation_from, opened
from inpo_studio.cli.work import wait_with_bar
from inpo_studio.studio.align.rounds import find_round
from inpo_studio.studio.compare.comparisons import get_comparisons, request_comparisons
from inpo_studio.transfer.export import export_comparisons
from inpo_studio.transfer.folders import check_free, new_folder
from inpo_studio.transfer.lines import read_prompts


def run(arguments: Any, console: Console) -> int:
    """Render the pictures, then write the folder whole."""
    texts = read_prompts(arguments.prompts)
    generation = generation_from(arguments)
    check_free(arguments.out)
    with opened(arguments) as studio:
        chosen = find_round(studio, arguments.round)
        asked = request_comparisons(studio, chosen, texts, arguments.seeds, generation=generation)
        if asked.labelled:
            console.note(
                f"{asked.labelled} of {len(asked.prompts)} prompts are used for labelling too; "
                "on those the comparison says less."
            )
        made = wait_with_bar(studio, console, asked.job_id, "comparison")
        found = get_comparisons(studio, made["comparison_ids"])
        with new_folder(arguments.out) as folder:
            export_comparisons(studio.files, folder, found)
        values = {
            "model": studio.settings.model,
            "round": chosen.id,
            "number": chosen.number,
            "comparisons": len(found),
            "prompts": len(asked.prompts),
            "labelled_prompts": asked.labelled,
            "seeds": asked.seeds,
            "directory": str(arguments.out.absolute()),
        }
    console.result(
        values,
        f"{len(found)} comparisons of base and round {chosen.number} in {values['directory']}",
    )
    return 0
