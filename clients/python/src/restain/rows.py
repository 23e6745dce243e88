"""Puts the rows of responses into the order of the caller's tiles: requests send keys last, and duplicates once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import errors
from .answers import Augmented, EncoderModel, Encodings, Timings
from .call import Answer
from .mixed import Pixels
from .portions import Portion
from .tiles import Distinct, keys_of
from .windows import Windows

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
    tensors, metadata = answer.tensors, answer.metadata
    encodings = Encodings(
        tensors["anatomy"],
        tensors["characteristics"],
        tuple(json.loads(metadata["keys"])),
        EncoderModel.from_json(metadata["model"]),
        tuple(Windows.from_json(entry) for entry in json.loads(metadata["windows"])),
        tensors["stain"],
        np.array(json.loads(metadata["takes_style"]), bool),
        metadata["detail"],
    )
    rows = order_of(answer, tiles)
    return encodings if rows is None else _ordered(encodings, rows)


def _ordered(encodings: Encodings, rows: NDArray[np.intp]) -> Encodings:
    """Returns the encodings of these tiles, in this order."""
    ends = np.cumsum(encodings.counts)
    each = [np.arange(end - count, end) for end, count in zip(ends, encodings.counts, strict=True)]
    windows = np.concatenate([each[row] for row in rows]) if len(rows) else rows
    return replace(
        encodings,
        anatomy=encodings.anatomy[windows],
        characteristics=encodings.characteristics[windows],
        keys=tuple(encodings.keys[row] for row in rows),
        windows=tuple(encodings.windows[row] for row in rows),
        stain=None if encodings.stain is None else encodings.stain[rows],
        takes_style=None if encodings.takes_style is None else encodings.takes_style[rows],
    )


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
    parts = [part for _, part in answered]
    together = replace(
        first,
        anatomy=np.concatenate([part.anatomy for part in parts]),
        characteristics=np.concatenate([part.characteristics for part in parts]),
        keys=tuple(key for part in parts for key in part.keys),
        windows=tuple(windows for part in parts for windows in part.windows),
        stain=np.concatenate([part.stain for part in parts if part.stain is not None]),
        takes_style=np.concatenate([part.takes_style for part in parts if part.takes_style is not None]),
    )
    return _ordered(together, np.argsort(_order(count, answered)))


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
