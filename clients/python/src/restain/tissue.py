"""Whether a tile shows tissue, by the server's measure of which patches have a stain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Side of the squares, pixels; their mean optical density as tissue, brighter is glass and darker is ink; the levels
# that a channel of a flat square, which compression makes of one value, spans at most; the mean green minus red from
# which it is pen.
_SIDE, _LIGHTEST, _DARKEST, _FLAT, _PEN = 16, 0.15, 2.5, 3, 24
_ENOUGH = 0.25
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


def has_tissue(tile: NDArray[np.uint8], share: float = _ENOUGH) -> bool:
    """Returns whether at least `share` of a tile's squares of 16 pixels have a stain. `tile` uint8 [H, W, 3].

    >>> noise = np.random.default_rng(0).integers(120, 200, (32, 32, 3), np.uint8)
    >>> has_tissue(noise), has_tissue(noise // 8 + 230), has_tissue(np.full((32, 32, 3), 120, np.uint8))
    (True, False, False)
    """
    side = min(_SIDE, *tile.shape[:2])
    rows, columns = tile.shape[0] // side, tile.shape[1] // side
    squares = tile[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    density = _DENSITY[squares].mean((1, 3, 4))
    spread = squares.max((1, 3)) - squares.min((1, 3))
    color = squares.mean((1, 3))
    is_stained = (density >= _LIGHTEST) & (density <= _DARKEST) & (spread > _FLAT).any(-1)
    is_stained &= color[..., 1] - color[..., 0] < _PEN
    return bool(is_stained.mean() >= share)
