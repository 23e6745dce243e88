"""Calls whose tiles are from several slides: one call for each slide, and their answers as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .answers import Augmented
from .mixed import Pixels
from .style import Style

OfOne = Callable[[Any, str | None], Augmented[Any]]
"""Returns the variants of tiles of one slide."""


def augmented(pixels: Pixels, slides: Sequence[str], style: Style | None, made: Any, of_one: OfOne) -> Augmented[Any]:
    """Returns the variants of tiles with a slide each; writes them to `made`, an array or a list.

    Raises `ValueError` if there are not as many slides as tiles, or the tiles of the call give each other their styles.
    """
    if isinstance(slides, bytes) or len(slides) != len(pixels):
        raise ValueError(
            f"slide has {len(slides)} ids for {len(pixels)} tiles, and must be one id or one for each tile"
        )
    if style is not None and style.is_of_batch and len(set(slides)) > 1:
        raise ValueError("slide has several ids, and styles from the batch are shared within one: call once for each")
    names, group = np.unique(np.asarray(slides, object).astype(str), return_inverse=True)
    failed = np.zeros(len(pixels), bool)
    parts: list[tuple[Any, Augmented[Any]]] = []
    for number, name in enumerate(names):
        places = np.flatnonzero(group == number)
        part = of_one(pixels[places], str(name))
        failed[places] = part.failed
        for at, place in enumerate(places):
            made[place] = part.variants[at]
        parts.append((places, part))
    records = tuple(record for _, part in parts for record in part.records)
    timings = tuple(timing for _, part in parts for timing in part.timings)
    order = np.concatenate([places[part.order] for places, part in parts])
    return Augmented(made, parts[0][1].seed, failed, timings, records, order)
