"""The tiles of a call: conversion to an array, removal of duplicates, and the limits of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pictures
from .keys import tile_key

Tiles = NDArray[np.uint8] | Sequence[Any]
"""uint8 [n, H, W, 3], one tile [H, W, 3], or a sequence of arrays [H, W, 3] or PIL images, all of one size."""


@dataclass(frozen=True)
class Limits:
    """The limits of one request; the client splits larger calls. The defaults are the server's.

    A request with tiles of 224 px and four variants of each has at most:

    >>> Limits().portion(tile_bytes=224 * 224 * 3, answer_bytes=4 * 224 * 224 * 3, references=0)
    256
    """

    tiles: int = 256
    body_bytes: int = 64 << 20
    answer_bytes: int = 256 << 20

    def portion(self, tile_bytes: int, answer_bytes: int, references: int) -> int:
        """Returns the number of tiles in a request, at least one."""
        # The head and the keys share the body with the pixels.
        by_body = (self.body_bytes - (64 << 10)) // tile_bytes - references
        return max(1, min(self.tiles - references, by_body, self.answer_bytes // answer_bytes))


def as_tiles(tiles: Tiles) -> NDArray[np.uint8]:
    """Converts tiles to uint8 [n, H, W, 3], C-contiguous; copies only if necessary. Raises `ValueError` otherwise.

    >>> as_tiles(np.zeros((96, 96, 3), np.uint8)).shape
    (1, 96, 96, 3)
    """
    if not isinstance(tiles, np.ndarray):
        arrays = [_pixels(tile) for tile in tiles]
        sizes = {array.shape for array in arrays}
        if len(sizes) > 1:
            raise ValueError(
                f"tiles of one call must have one size, and these have {sorted(sizes)}: call once for each size"
            )
        tiles = np.stack(arrays) if arrays else np.empty((0, 1, 1, 3), np.uint8)
    if tiles.dtype != np.uint8 or tiles.ndim not in (3, 4) or tiles.shape[-1] != 3:
        raise ValueError(f"tiles are {tiles.dtype} {list(tiles.shape)}, and must be uint8 [n, height, width, 3]")
    if tiles.ndim == 3:
        tiles = tiles[None]
    if not len(tiles):
        raise ValueError("tiles is empty, and must have at least one tile")
    return np.ascontiguousarray(tiles)


def _pixels(tile: Any) -> NDArray[Any]:
    return pictures.rgb(tile) if hasattr(tile, "convert") else np.asarray(tile)


@dataclass(frozen=True)
class Distinct:
    """The tiles of one request and their keys, without duplicates. Pixels are copied only when they are sent."""

    pixels: NDArray[np.uint8]
    rows: NDArray[np.intp] | None
    """The row of each tile in `pixels`; None if they are all of them, in order."""
    keys: list[bytes]
    places: NDArray[np.intp] | None
    """For each tile of the request its index among these; None if there are no duplicates."""

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], rows: NDArray[np.intp] | None, keys: list[bytes]) -> Distinct:
        """Removes duplicates from the tiles at `rows` of `pixels`, which have these keys."""
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        if len(first) == len(keys):
            return cls(pixels, rows, keys, None)
        kept = np.array(sorted(first.values()))
        rank = {keys[place]: n for n, place in enumerate(kept)}
        places = np.array([rank[key] for key in keys])
        return cls(pixels, kept if rows is None else rows[kept], [keys[place] for place in kept], places)

    def taken(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """Returns the pixels of the tiles at `places`."""
        if self.rows is not None:
            return self.pixels[self.rows[places]]
        return self.pixels if len(places) == len(self.pixels) else self.pixels[places]


def keys_of(tiles: NDArray[np.uint8]) -> list[bytes]:
    return [tile_key(tile) for tile in tiles]


def keys_array(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    """uint8 [m, 32]"""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
