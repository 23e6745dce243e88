"""Assignment of tiles to replicas by rendezvous hashing, from the tile's key and the replicas' addresses alone.

Rendezvous hashing (Thaler and Ravishankar, 1998): every replica has a weight for every tile, and the tile belongs to
the replica with the highest. All clients agree without communication. If a replica fails, only its tiles move, each
to the replica with the next weight, so that they are spread evenly; when it returns, only these tiles return. A hash
ring is less even, and is state to maintain.

Behind a gateway the client does not know the replicas. It sends a tile's shard in a header, and the gateway hashes
that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

SHARD_HEADER = "x-restain-shard"
SHARDS = 1024
"""The highest number of shards: a shard is the first ten bits of a key."""
_TABLE = 1 << 15


def owners(keys: Sequence[bytes], addresses: Sequence[str]) -> NDArray[np.intp]:
    """Returns for each key the index in `addresses` of the replica that the tile belongs to.

    >>> keys = [bytes([number]) * 32 for number in range(4)]
    >>> owners(keys, ["http://a:8080", "http://b:8080"]).tolist()
    [1, 1, 0, 1]
    """
    tiles = np.frombuffer(b"".join(key[:8] for key in keys), "<u8")
    names = np.array([_word(address) for address in addresses], np.uint64)
    every = np.arange(len(tiles))
    heaviest, place = np.zeros(len(tiles), np.uint64), np.zeros(len(tiles), np.intp)
    # A few replicas at a time: the table of all weights is large for many tiles, and single rows are slow for few.
    rows = max(1, _TABLE // len(tiles))
    for start in range(0, len(names), rows):
        weights = _mixed(tiles ^ names[start : start + rows, None])
        best = weights.argmax(axis=0)
        weight = weights[best, every]
        is_heavier = weight > heaviest
        heaviest[is_heavier], place[is_heavier] = weight[is_heavier], start + best[is_heavier]
    return place


def shards(keys: Sequence[bytes], count: int) -> NDArray[np.intp]:
    """Returns the shard of each key, below `count`: its first ten bits modulo `count`.

    >>> shards([bytes.fromhex("ffc0"), bytes.fromhex("0080")], 32).tolist()
    [31, 2]
    """
    first = np.frombuffer(b"".join(key[:2] for key in keys), ">u2")
    return (first >> 6).astype(np.intp) % count


@lru_cache(maxsize=4096)
def _word(address: str) -> int:
    return int.from_bytes(blake3(address.encode()).digest()[:8], "little")


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): each input bit changes half of the output bits."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed
