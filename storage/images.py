"""Images: what made each, and the hash its bytes are stored under."""

from __future__ import annotations

from sqlalchemy.orm import Session

from storage.checks import checked_seed, get_row
from storage.errors import InvalidInput
from storage.schema import AdapterOn, Image, new_id


def add_image(
    session: Session,
    *,
    sha256: str,
    width: int,
    height: int,
    prompt_id: str,
    seed: int,
    model: str,
    adapter_id: str | None,
    guidance: float,
    steps: int,
    adapter_on: AdapterOn | None = None,
    negative_prompt: str = "",
    variation_seed: int | None = None,
    variation_strength: float | None = None,
    latents_sha256: str | None = None,
    image_id: str | None = None,
) -> Image:
    """Store a picture's row; its bytes must already be in the file store.

    Width and height are pixels; `adapter_id` None is the base model, and then so is `adapter_on`,
    which says what of guidance the adapter changed. A variation names its second
    seed and its strength, others neither. With an `image_id` that exists already the stored row is
    returned, so a repeated job adds nothing twice; it must be of the same prompt, seeds, model and
    adapter, else InvalidInput.
    """
    origin = (prompt_id, seed, variation_seed, model, adapter_id)
    image_id = image_id or new_id()
    if (variation_seed is None) != (variation_strength is None):
        raise InvalidInput("A variation has a second seed and a strength; give both or neither.")
    if (adapter_id is None) != (adapter_on is None):
        raise InvalidInput("A picture with an adapter says what that was on; give both or neither.")
    stored = session.get(Image, image_id)
    if stored is not None:
        _same_origin(stored, origin)
        return stored
    image = Image(
        id=image_id,
        sha256=sha256,
        width=width,
        height=height,
        prompt_id=prompt_id,
        seed=checked_seed(seed),
        variation_seed=None if variation_seed is None else checked_seed(variation_seed),
        variation_strength=variation_strength,
        model=model,
        adapter_id=adapter_id,
        adapter_on=adapter_on,
        guidance=guidance,
        steps=steps,
        negative_prompt=negative_prompt,
        latents_sha256=latents_sha256,
    )
    session.add(image)
    session.flush()
    return image


def _same_origin(image: Image, origin: tuple[object, ...]) -> None:
    stored = (image.prompt_id, image.seed, image.variation_seed, image.model, image.adapter_id)
    if stored != origin:
        raise InvalidInput(f"The image {image.id!r} is already stored with another origin.")


def get_image(session: Session, image_id: str) -> Image:
    """The image with this id; NotFound if there is none."""
    return get_row(session, Image, image_id)
