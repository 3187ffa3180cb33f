"""The model card of an exported adapter: README.md in the form that model hubs read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from inpo_studio.transfer.adapters import DIFFUSERS_FILE
from inpo_studio.transfer.provenance import Provenance

_OBJECTIVES = {
    "inpo": "DDIM-InPO (Direct Preference Optimization along DDIM-inverted noise)",
    "diffusion_dpo": "Diffusion-DPO",
    "ipo": "IPO on noise errors",
}


def model_card(found: Provenance, files: Sequence[str]) -> str:
    """README.md of a folder that holds `files`."""
    parts = [_front_matter(found), f"# {found.title}\n", _what(found), _use(found, files)]
    return "\n".join([*parts, _how(found)])


def _front_matter(found: Provenance) -> str:
    lines = ["---", "tags:"]
    lines += [f"- {tag}" for tag in ("text-to-image", "lora", "diffusers", "preference-alignment")]
    lines.append("- template:diffusion-lora")
    if found.base_is_hub_id:
        # Quoted: a name such as 1e5/on would be no text in YAML.
        lines.append(f"base_model: {json.dumps(found.base)}")
    lines += ["instance_prompt: null", "license: other", "license_name: that-of-the-base-model"]
    return "\n".join([*lines, "---", ""])


def _what(found: Provenance) -> str:
    judged = found.blind_votes or "No blind votes have been counted on it."
    if not found.is_trained:
        return f"A LoRA adapter for **{found.base}** ({found.family.title}).\n\n{judged}\n"
    return (
        f"A LoRA adapter for **{found.base}** ({found.family.title}) that moves its pictures "
        f"towards {found.choices} choices between two pictures. It has no trigger word. "
        f"{_strength(found)}\n\n{judged}\n"
    )


def _strength(found: Provenance) -> str:
    """How to load it so that it shows what it showed in the studio."""
    if found.imported is not None:
        return "Use it at strength 1."
    return (
        "The studio draws with it on the prompt's prediction alone, so that guidance moves away "
        "from the base model; in ComfyUI that is `Create Hook LoRA` on the positive conditioning, "
        "at strength 1. Loaded as usual it acts on both predictions of guidance and shows less of "
        "what was chosen: try strengths from 1 to 2."
    )


def _use(found: Provenance, files: Sequence[str]) -> str:
    kohya = [name for name in files if name.endswith(".safetensors") and name not in _OURS]
    lines = ["## Use\n"]
    if kohya:
        lines.append(
            f"- ComfyUI, AUTOMATIC1111 and others: put `{kohya[0]}` into their folder of LoRAs."
        )
    if DIFFUSERS_FILE in files:
        lines.append(
            f"- diffusers: `pipe.load_lora_weights(FOLDER, weight_name='{DIFFUSERS_FILE}')`"
        )
    if "adapter_config.json" in files:
        lines.append("- PEFT: `PeftModel.from_pretrained(pipe.unet, FOLDER)`")
    return "\n".join([*lines, ""])


_OURS = (DIFFUSERS_FILE, "adapter_model.safetensors")


def _how(found: Provenance) -> str:
    rows = [*_origin(found), *(_training(found) if found.is_trained else [])]
    rows.append(("Rank, alpha", f"{found.rank}, {found.alpha:g}"))
    rows.append(("Adapted layers", f"of the UNet: {', '.join(found.modules)}"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"## How it was made\n\nWith InPO Studio.\n\n| | |\n|---|---|\n{table}\n"


def _origin(found: Provenance) -> list[tuple[str, str]]:
    """Where the first of its rounds came from, if it was not trained there."""
    if found.imported is None:
        return []
    name = found.imported.name.replace("|", "\\|")
    rows = [("Imported from", f"{name} ({found.imported.form} form), see its own licence")]
    rows.append(("SHA-256 of that file", f"`{found.imported.sha256}`"))
    if found.imported.left_out:
        rows.append(("Left out", f"{found.imported.left_out} layers of the text encoder"))
    return rows


def _training(found: Provenance) -> list[tuple[str, str]]:
    config = found.config
    return [
        ("Objective", _OBJECTIVES.get(config.objective, config.objective)),
        ("Rounds, first to last", " → ".join(str(number) for number in found.rounds)),
        ("Choices in the last round", str(found.choices)),
        ("Optimiser steps", str(found.step)),
        ("Pairs a step", str(config.batch_pairs)),
        ("beta", f"{config.beta:g}"),
        ("Learning rate", f"{config.learning_rate:g}"),
        ("Seed", str(config.seed)),
    ]
