"""The tiles of a call: conversion to an array, removal of duplicates, and the limits of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pictures
from .keys import tile_key
from .mixed import Mixed, Pixels

Tiles = NDArray[np.uint8] | Sequence[Any]
"""uint8 [n, H, W, 3], one tile [H, W, 3], or a sequence of arrays [H, W, 3] or PIL images, of any sizes."""


@dataclass(frozen=True)
class Limits:
    """The limits of one request; the client splits larger calls. The defaults are the server's.

    Where the requests for 600 tiles of 224 px and four variants of each end:

    >>> Limits().bounds([224 * 224 * 3] * 600, answer_share=4, reference_bytes=[])
    [(0, 256), (256, 512), (512, 600)]
    """

    tiles: int = 256
    body_bytes: int = 64 << 20
    answer_bytes: int = 256 << 20

    def bounds(
        self, tile_bytes: Sequence[int], answer_share: int, reference_bytes: Sequence[int], most: int | None = None
    ) -> list[tuple[int, int]]:
        """Returns where requests with tiles of these bytes begin and end, each with at least one tile.

        `answer_share`: bytes of the response for each byte of a tile. `most`: tiles of a request, if the server takes
        fewer than `tiles`.

        >>> Limits(body_bytes=70_000).bounds([3000, 1000, 2000, 9000, 100], 4, [])
        [(0, 2), (2, 3), (3, 4), (4, 5)]
        """
        # The head and the keys share the body with the pixels.
        by_body = self.body_bytes - (64 << 10) - sum(reference_bytes)
        room, count = min(by_body, self.answer_bytes // answer_share), self.tiles - len(reference_bytes)
        count = count if most is None else min(count, most)
        bounds, first, total = [], 0, 0
        for place, size in enumerate(tile_bytes):
            if place > first and (place - first >= count or total + size > room):
                bounds.append((first, place))
                first, total = place, 0
            total += size
        return [*bounds, (first, len(tile_bytes))]


def as_tiles(tiles: Tiles) -> NDArray[np.uint8]:
    """Converts tiles of one size to uint8 [n, H, W, 3], C-contiguous; copies only if necessary. Raises `ValueError`
    otherwise.

    >>> as_tiles(np.zeros((96, 96, 3), np.uint8)).shape
    (1, 96, 96, 3)
    """
    pixels = as_pixels(tiles)
    if isinstance(pixels, Mixed):
        sizes = sorted({tile.shape[:2] for tile in pixels})
        raise ValueError(f"tiles must have one size here, and these have {sizes} (height, width)")
    return pixels


def as_pixels(tiles: Tiles) -> Pixels:
    """Converts tiles to uint8 [n, H, W, 3], or tiles of several sizes to `Mixed`. Raises `ValueError` otherwise.

    >>> type(as_pixels([np.zeros((96, 96, 3), np.uint8), np.zeros((64, 32, 3), np.uint8)])).__name__
    'Mixed'
    """
    if not isinstance(tiles, np.ndarray):
        arrays = [_pixels(tile) for tile in tiles]
        if len({array.shape for array in arrays}) > 1:
            for place, array in enumerate(arrays):
                if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
                    raise ValueError(
                        f"tiles[{place}] is {array.dtype} {list(array.shape)}, and must be uint8 [height, width, 3]"
                    )
            return Mixed([np.ascontiguousarray(array) for array in arrays])
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

    pixels: Pixels
    rows: NDArray[np.intp] | None
    """The row of each tile in `pixels`; None if they are all of them, in order."""
    keys: list[bytes]
    places: NDArray[np.intp] | None
    """For each tile of the request its index among these; None if there are no duplicates."""
    slides: Sequence[str] | None = None
    """The id of each tile's slide; None if the call has none for each."""

    @classmethod
    def of(
        cls,
        pixels: Pixels,
        rows: NDArray[np.intp] | None,
        keys: list[bytes],
        slides: Sequence[str] | None = None,
    ) -> Distinct:
        """Removes duplicates from the tiles at `rows` of `pixels`, which have these keys and are from these slides."""
        whole: Sequence[Any] = keys if slides is None else list(zip(keys, slides, strict=True))
        first = {each: place for place, each in reversed(list(enumerate(whole)))}
        if len(first) == len(keys):
            return cls(pixels, rows, keys, None, slides)
        kept = np.array(sorted(first.values()))
        rank = {whole[place]: n for n, place in enumerate(kept)}
        places = np.array([rank[each] for each in whole])
        own = None if slides is None else [slides[place] for place in kept]
        return cls(pixels, kept if rows is None else rows[kept], [keys[place] for place in kept], places, own)

    def first(self, place: int) -> int:
        """Returns the index of the first tile of the request that is the one at `place` of these."""
        return place if self.places is None else int(np.flatnonzero(self.places == place)[0])

    def taken(self, places: Sequence[int]) -> Pixels:
        """Returns the pixels of the tiles at `places`."""
        if self.rows is not None:
            return self.pixels[self.rows[places]]
        return self.pixels if len(places) == len(self.pixels) else self.pixels[places]


def keys_of(tiles: Pixels) -> list[bytes]:
    return [tile_key(tile) for tile in tiles]


def keys_array(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    """uint8 [m, 32]"""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
