"""A tile's key: what the server knows its encoding by.

There is no list of tiles that were sent. A request names its tiles by key first; what the server does not hold it says,
and only that is sent. So a restarted server, an evicted tile, a worker process that has just begun and a tile that
somebody else sent are all the same case, and none of them needs a client that remembers.
"""

from __future__ import annotations

import struct

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

KEY_BYTES = 32


def tile_key(tile: NDArray[np.uint8]) -> bytes:
    """BLAKE3 of width, height (u32, little-endian) and pixels. `tile` uint8 [H, W, 3]."""
    height, width = tile.shape[:2]
    pixels = np.ascontiguousarray(tile).reshape(-1)
    return blake3(struct.pack("<II", width, height)).update(pixels.data).digest()


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's requests: 53 bits of BLAKE3 of both: no two epochs are alike."""
    text = f"restain epoch {seed} {epoch}".encode()
    return int.from_bytes(blake3(text).digest()[:8], "little") >> 11
