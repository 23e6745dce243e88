"""Which replica a tile belongs to, known from the tile's key and the replicas' addresses alone.

Rendezvous hashing (Thaler and Ravishankar, 1998): every replica has a weight for every tile, and the highest takes it.
All clients agree without talking. When a replica goes only its tiles move, each to the replica of its next weight, so
that the rest share them evenly; when it is back, only they return. A ring of hashed points does the same less evenly,
and has to be kept.

Behind a gateway the replicas are the gateway's to know. There a tile has a shard, which is said in a header, and the
gateway hashes that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

SHARD_HEADER = "x-restain-shard"
SHARDS = 1024
"""As many as there are at most: a shard is the first ten bits of a key."""
_TABLE = 1 << 15


def owners(keys: Sequence[bytes], addresses: Sequence[str]) -> NDArray[np.intp]:
    """Of each tile the place among `addresses` of the replica that it belongs to."""
    tiles = np.frombuffer(b"".join(key[:8] for key in keys), "<u8")
    names = np.array([_word(address) for address in addresses], np.uint64)
    every = np.arange(len(tiles))
    heaviest, place = np.zeros(len(tiles), np.uint64), np.zeros(len(tiles), np.intp)
    # Some replicas at a time: a table of all weights would be large for many tiles, and one row of it is slow for few.
    rows = max(1, _TABLE // len(tiles))
    for start in range(0, len(names), rows):
        weights = _mixed(tiles ^ names[start : start + rows, None])
        best = weights.argmax(axis=0)
        weight = weights[best, every]
        is_heavier = weight > heaviest
        heaviest[is_heavier], place[is_heavier] = weight[is_heavier], start + best[is_heavier]
    return place


def shards(keys: Sequence[bytes], count: int) -> NDArray[np.intp]:
    """Of each tile its shard, below `count`: the first ten bits of its key, modulo `count`."""
    first = np.frombuffer(b"".join(key[:2] for key in keys), ">u2")
    return (first >> 6).astype(np.intp) % count


@lru_cache(maxsize=4096)
def _word(address: str) -> int:
    return int.from_bytes(blake3(address.encode()).digest()[:8], "little")


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit of a word moves half of the answer's."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed
