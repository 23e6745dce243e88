"""The carry in numpy: variants with the tile's own detail and size, bit-identical to the server's result.

For a tile of the model's size, the residual (the tile minus its rounded reconstruction) is added to the offset of the
product. For a tile of another size, the change (what the style changes, at the model's size) is resampled to the tile's
size and added to the tile: bilinearly where the tile is larger, with a wider triangle where it is smaller. All sums are
in single precision, in the server's order. Where the tile is glass, the change is then limited.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The server clamps levels to this before it rounds them, so that a residual fits into 16 bits.
FURTHEST = 8192.0
# Glass: the largest change in levels; the luminance up to which and the chroma from which a pixel is none; the green
# minus red up to which it is no pen; the largest channel from which it is no black padding; and the levels over which
# it becomes any of them.
GLASS_LIMIT, GLASS_DARKEST, GLASS_CHROMA, GLASS_PEN, GLASS_COLOUR, GLASS_RAMP = 3, 214, 36, 16, 24, 16


@dataclass(frozen=True)
class Taps:
    """The pixels of one axis that make a pixel at another size, and their weights."""

    starts: NDArray[np.intp]
    """[pixels]: the first of them."""
    weights: NDArray[np.float32]
    """[pixels, taps]"""

    @classmethod
    def of(cls, source: int, target: int) -> Taps:
        """Computes the taps for resampling `source` pixels to `target` pixels.

        >>> taps = Taps.of(2, 4)
        >>> taps.starts.tolist(), taps.weights.tolist()
        ([0, 0, 0, 0], [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
        """
        scale = source / target
        radius = max(scale, 1.0)
        each = min(int(np.ceil(2.0 * radius)) + (scale > 1.0), source)
        centre = np.clip((np.arange(target) + 0.5) * scale - 0.5, 0.0, source - 1.0)
        first = np.maximum(np.floor(centre - radius) + 1.0, 0.0).astype(np.intp)
        starts = np.minimum(first, source - each)
        distance = np.abs(starts[:, None] + np.arange(each) - centre[:, None])
        weights = np.maximum(1.0 - distance / radius, 0.0)
        # One after the other, as the server adds them.
        sums = np.zeros(target)
        for tap in range(each):
            sums += weights[:, tap]
        return cls(starts, (weights / sums[:, None]).astype(np.float32))


def resampled(change: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resamples a change [H, W, 3] to float32 [height, width, 3]."""
    columns, rows = Taps.of(change.shape[1], width), Taps.of(change.shape[0], height)
    wide = np.zeros((change.shape[0], width, 3), np.float32)
    for tap in range(columns.weights.shape[1]):
        wide += change[:, columns.starts + tap] * columns.weights[None, :, tap, None]
    tall = np.zeros((height, width, 3), np.float32)
    for tap in range(rows.weights.shape[1]):
        tall += wide[rows.starts + tap] * rows.weights[:, tap, None, None]
    return tall


def residual(tile: NDArray[np.uint8], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns the tile minus its reconstruction `levels`, rounded: float32 [H, W, 3]."""
    known = np.where(np.isnan(levels), -FURTHEST, np.clip(levels, -FURTHEST, FURTHEST))
    return (tile - np.rint(known)).astype(np.float32)


def pixels_of(levels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Rounds and clamps levels; NaN becomes 0."""
    rounded: NDArray[np.uint8] = np.rint(np.clip(np.nan_to_num(levels, nan=0.0), 0, 255)).astype(np.uint8)
    return rounded


def keep_glass(tile: NDArray[np.uint8], variant: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Limits the change where the tile is glass, bright and grey, or pen, greener than red, or black: uint8 [H, W, 3].

    How much a pixel is glass is max(clamp(luminance - 214, 0, 16) · clamp(36 - chroma, 0, 16), 16 · clamp(G - R - 16,
    0, 16), 16 · clamp(24 - max(R, G, B), 0, 16)) / 256, with luminance (77·R + 150·G + 29·B) / 256, rounded down, and
    chroma the largest channel minus the smallest. The change d of a value becomes glass · clamp(d, -3, 3) + (1 -
    glass) · d.

    >>> keep_glass(np.uint8([[[243, 243, 243]]]), np.uint8([[[180, 240, 255]]])).tolist()
    [[[240, 240, 246]]]
    """
    own = tile.astype(np.int32)
    luminance = own @ np.array([77, 150, 29], np.int32) >> 8
    chroma = own.max(-1) - own.min(-1)
    light = np.clip(luminance - GLASS_DARKEST, 0, GLASS_RAMP)
    grey = np.clip(GLASS_CHROMA - chroma, 0, GLASS_RAMP)
    pen = np.clip(own[..., 1] - own[..., 0] - GLASS_PEN, 0, GLASS_RAMP)
    black = np.clip(GLASS_COLOUR - own.max(-1), 0, GLASS_RAMP)
    glass = np.maximum(light * grey, GLASS_RAMP * np.maximum(pen, black))[..., None]
    change = variant.astype(np.int32) - own
    limited = np.clip(change, -GLASS_LIMIT, GLASS_LIMIT) * glass + change * (256 - glass)
    kept: NDArray[np.uint8] = (own + (limited + 128 >> 8)).astype(np.uint8)
    return kept
