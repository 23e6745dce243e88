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
    """Tiles with their keys, each once."""

    pixels: NDArray[np.uint8]
    keys: list[bytes]
    places: NDArray[np.intp] | None
    """Of each tile of the call among these; None when they are the call's tiles as they were."""

    @classmethod
    def of(cls, tiles: NDArray[np.uint8]) -> Distinct:
        keys = [tile_key(tile) for tile in tiles]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        if len(first) == len(keys):
            return cls(tiles, keys, None)
        kept = sorted(first.values())
        rank = {keys[place]: n for n, place in enumerate(kept)}
        return cls(tiles[kept], [keys[place] for place in kept], np.array([rank[key] for key in keys]))

    @classmethod
    def as_given(cls, tiles: NDArray[np.uint8]) -> Distinct:
        return cls(tiles, [tile_key(tile) for tile in tiles], None)


def keys_array(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    """uint8 [m, 32]"""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
