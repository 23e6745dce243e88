"""An answer's rows in the order of the caller's tiles: on the wire keys come last, and no tile comes twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answers import EncoderModel, Encodings, Timings
from .call import Answer
from .tiles import Distinct


def _rows(answer: Answer, tiles: Distinct) -> NDArray[np.intp] | None:
    """For each tile of the call its row of the answer; None when they are the same."""
    if answer.order is None:
        return tiles.places
    order = np.array(answer.order)
    return order if tiles.places is None else order[tiles.places]


def variants_of(
    answer: Answer, tiles: Distinct, room: NDArray[np.uint8]
) -> tuple[list[Mapping[str, Any] | str], Timings]:
    rows, made = _rows(answer, tiles), answer.tensors["variants"]
    records: list[Mapping[str, Any] | str] = [answer.metadata["provenance"]]
    if rows is not None:
        np.take(made, rows, axis=0, out=room)
        told, count = json.loads(answer.metadata["provenance"]), made.shape[1]
        records = [told[row * count + k] for row in rows for k in range(count)]
    elif made is not room:
        room[:] = made
    return records, _timings(answer.headers.get("server-timing", ""))


def encodings_of(answer: Answer, tiles: Distinct) -> Encodings:
    rows, keys = _rows(answer, tiles), json.loads(answer.metadata["keys"])
    anatomy, characteristics = answer.tensors["anatomy"], answer.tensors["characteristics"]
    if rows is not None:
        anatomy, characteristics, keys = anatomy[rows], characteristics[rows], [keys[row] for row in rows]
    return Encodings(anatomy, characteristics, tuple(keys), EncoderModel.from_json(answer.metadata["model"]))


def originals_of(pixels: NDArray[np.uint8], variants: int, seed: int) -> list[Mapping[str, Any] | str]:
    keys = [key.hex() for key in Distinct.as_given(pixels).keys]
    same: dict[str, Any] = {
        "model": "",
        "version": "",
        "bundle": "",
        "seed": seed,
        "method": "original",
        "style": None,
        "domain": None,
    }
    return [{**same, "tile_key": key, "index": k} for key in keys for k in range(variants)]


def _timings(header: str) -> Timings:
    """Of `queue;dur=0.1, encode;dur=2.0`."""
    told: dict[str, float] = {}
    for entry in header.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        if name in ("queue", "encode", "synthesise", "total") and duration:
            told[f"{name}_ms"] = float(duration)
    return Timings(**told)
