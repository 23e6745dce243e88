"""The tiles of a call: as an array, without duplicates, and in portions that the server takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keys import tile_key

Tiles = NDArray[np.uint8] | Sequence[Any]
"""uint8 [n, H, W, 3], one tile [H, W, 3], or a sequence of arrays [H, W, 3] or PIL images, all of one size."""


@dataclass(frozen=True)
class Limits:
    """What one request may be; larger calls are sent as several. The defaults are the server's own."""

    tiles: int = 256
    body_bytes: int = 64 << 20
    answer_bytes: int = 256 << 20

    def portion(self, tile_bytes: int, answer_bytes: int, references: int) -> int:
        """Tiles of a request, at least one."""
        # The head and the keys share the body with the pixels.
        by_body = (self.body_bytes - (64 << 10)) // tile_bytes - references
        return max(1, min(self.tiles - references, by_body, self.answer_bytes // answer_bytes))


def as_tiles(tiles: Tiles) -> NDArray[np.uint8]:
    """uint8 [n, H, W, 3], C-contiguous; copied only when they are not that already."""
    if not isinstance(tiles, np.ndarray):
        arrays = [_pixels(tile) for tile in tiles]
        sizes = {array.shape for array in arrays}
        if len(sizes) > 1:
            raise ValueError(
                f"tiles of one call have one size, and these have {sorted(sizes)}: call once for each size"
            )
        tiles = np.stack(arrays) if arrays else np.empty((0, 1, 1, 3), np.uint8)
    if tiles.dtype != np.uint8 or tiles.ndim not in (3, 4) or tiles.shape[-1] != 3:
        raise ValueError(f"tiles are {tiles.dtype} {list(tiles.shape)}, and must be uint8 [n, height, width, 3]")
    if tiles.ndim == 3:
        tiles = tiles[None]
    if not len(tiles):
        raise ValueError("there is no tile")
    return np.ascontiguousarray(tiles)


def _pixels(tile: Any) -> NDArray[Any]:
    return np.asarray(tile.convert("RGB") if hasattr(tile, "convert") else tile)


@dataclass(frozen=True)
class Distinct:
    """The tiles of one request with their keys, each once. No pixel is copied before it is sent."""

    pixels: NDArray[np.uint8]
    rows: NDArray[np.intp] | None
    """Of each of these tiles its row of `pixels`; None when they are all of them, in their order."""
    keys: list[bytes]
    places: NDArray[np.intp] | None
    """Of each tile of the request among these; None when each of them is there once."""

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], rows: NDArray[np.intp] | None, keys: list[bytes]) -> Distinct:
        """Of the tiles at `rows` of `pixels`, which have these keys."""
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        if len(first) == len(keys):
            return cls(pixels, rows, keys, None)
        kept = np.array(sorted(first.values()))
        rank = {keys[place]: n for n, place in enumerate(kept)}
        places = np.array([rank[key] for key in keys])
        return cls(pixels, kept if rows is None else rows[kept], [keys[place] for place in kept], places)

    def taken(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """The pixels of the tiles at `places`."""
        if self.rows is not None:
            return self.pixels[self.rows[places]]
        return self.pixels if len(places) == len(self.pixels) else self.pixels[places]


def keys_of(tiles: NDArray[np.uint8]) -> list[bytes]:
    return [tile_key(tile) for tile in tiles]


def keys_array(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    """uint8 [m, 32]"""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
