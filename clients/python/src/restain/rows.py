"""Puts the rows of responses into the order of the caller's tiles: requests send keys last, and duplicates once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import errors
from .answers import Augmented, EncoderModel, Encodings, Timings
from .call import Answer
from .mixed import Pixels
from .portions import Portion
from .tiles import Distinct, keys_of

Made = tuple[list[Mapping[str, Any] | str], Timings | None]
"""The provenance of a portion's variants, tile by tile, and the server's timings."""


def order_of(answer: Answer, tiles: Distinct) -> NDArray[np.intp] | None:
    """Returns for each tile its row in the response; None if they are equal."""
    if answer.order is None:
        return tiles.places
    order = np.array(answer.order)
    return order if tiles.places is None else order[tiles.places]


def records_of(answer: Answer, order: NDArray[np.intp] | None, count: int) -> Made:
    """Returns the provenance and the timings of a response with `count` variants of each tile."""
    records: list[Mapping[str, Any] | str] = [answer.metadata["provenance"]]
    if order is not None:
        each = json.loads(answer.metadata["provenance"])
        records = [each[row * count + k] for row in order for k in range(count)]
    return records, _timings(answer.headers.get("server-timing", ""))


def encodings_of(answer: Answer, tiles: Distinct) -> Encodings:
    rows, keys = order_of(answer, tiles), json.loads(answer.metadata["keys"])
    anatomy, characteristics = answer.tensors["anatomy"], answer.tensors["characteristics"]
    if rows is not None:
        anatomy, characteristics, keys = anatomy[rows], characteristics[rows], [keys[row] for row in rows]
    return Encodings(anatomy, characteristics, tuple(keys), EncoderModel.from_json(answer.metadata["model"]))


def originals_of(pixels: Pixels, variants: int, seed: int) -> Made:
    keys = [key.hex() for key in keys_of(pixels)]
    same: dict[str, Any] = {
        "model": "",
        "version": "",
        "bundle": "",
        "seed": seed,
        "method": "original",
        "style": None,
        "domain": None,
    }
    return [{**same, "tile_key": key, "index": k} for key in keys for k in range(variants)], None


def augmented(
    variants: Any, seed: int, failed: NDArray[np.bool_], answered: Sequence[tuple[Portion, Made]]
) -> Augmented[Any]:
    """Joins the variants of all portions."""
    records = tuple(record for _, (made, _) in answered for record in made)
    timings = tuple(timing for _, (_, timing) in answered if timing is not None)
    return Augmented(variants, seed, failed, timings, records, _order(len(failed), answered))


def joined(count: int, answered: Sequence[tuple[Portion, Encodings]]) -> Encodings:
    """Joins the encodings of all portions. Raises `Unavailable` if they are of different bundles."""
    first = answered[0][1]
    if len(answered) == 1:
        return first
    bundles = {part.model.bundle for _, part in answered}
    if len(bundles) > 1:
        raise errors.Unavailable(
            f"replicas serve different bundles, {', '.join(sorted(bundles))}: load the same version on all of them",
            code="bundles_differ",
        )
    order = _order(count, answered)
    anatomy, characteristics = np.empty((2, count, *first.anatomy.shape[1:]), first.anatomy.dtype)
    anatomy[order] = np.concatenate([part.anatomy for _, part in answered])
    characteristics[order] = np.concatenate([part.characteristics for _, part in answered])
    keys = np.empty(count, object)
    keys[order] = [key for _, part in answered for key in part.keys]
    return Encodings(anatomy, characteristics, tuple(keys), first.model)


def _order(count: int, answered: Sequence[tuple[Portion, Any]]) -> NDArray[np.intp]:
    """Returns the indices of the call's tiles, in the order of the portions."""
    every = np.arange(count)
    return np.concatenate([every[portion.places] for portion, _ in answered])


def _timings(header: str) -> Timings:
    """Parses Server-Timing.

    >>> _timings("queue;dur=0.1, encode;dur=2.0")
    Timings(queue_ms=0.1, encode_ms=2.0, synthesise_ms=0.0, total_ms=0.0)
    """
    stages: dict[str, float] = {}
    for entry in header.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        if name in ("queue", "encode", "synthesise", "total") and duration:
            stages[f"{name}_ms"] = float(duration)
    return Timings(**stages)
