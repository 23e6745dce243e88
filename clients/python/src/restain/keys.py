"""Tile keys, which identify cached encodings, and the seeds of epochs.

The client keeps no list of tiles that it has sent. A request contains keys first; the server reports the keys that it
does not cache, and the client sends only those tiles. A restarted server, an evicted tile, a new worker process and a
tile that another client sent are therefore the same case.
"""

from __future__ import annotations

import struct

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

KEY_BYTES = 32


def tile_key(tile: NDArray[np.uint8]) -> bytes:
    """Returns a tile's key, 32 bytes: BLAKE3 of width, height (u32, little-endian) and pixels. `tile` uint8 [H, W, 3].

    >>> import numpy as np
    >>> tile_key(np.zeros((96, 96, 3), np.uint8)).hex()[:16]
    '35f0b4ad75fa2874'
    """
    height, width = tile.shape[:2]
    pixels = np.ascontiguousarray(tile).reshape(-1)
    return blake3(struct.pack("<II", width, height)).update(pixels.data).digest()


def epoch_seed(seed: int, epoch: int) -> int:
    """Returns the seed of an epoch's requests: 53 bits of BLAKE3 of both numbers, different for every epoch.

    >>> epoch_seed(7, 0), epoch_seed(7, 1)
    (5499736699072201, 5643182296917678)
    """
    text = f"restain epoch {seed} {epoch}".encode()
    return int.from_bytes(blake3(text).digest()[:8], "little") >> 11
