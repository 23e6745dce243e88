"""Tensors on the wire: safetensors bodies, written and read without copying the numbers.

The format is a length, a JSON head, and the tensors end to end. The `safetensors` package is not used: its reader of
bytes copies every tensor and leaves out the metadata, where the server puts the provenance. Little-endian, as the
format is and as every machine that this runs on.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SAFETENSORS = "application/vnd.restain.safetensors"

Piece = bytes | memoryview
"""A part of a body: bodies are sent piece by piece, from where they lie."""

_NAMES = {"uint8": "U8", "float16": "F16", "float32": "F32"}
_DTYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype(np.uint8), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
# More head than any answer has: what announces more is no answer of this server.
_MAX_HEAD = 1 << 30


class Stream(Protocol):
    """The body of an answer as it arrives."""

    def read_into(self, target: memoryview) -> None:
        """Fills `target`, or raises."""


def pack(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> list[Piece]:
    """A body. Arrays are C-contiguous, and must not change before it has been sent."""
    head: dict[str, Any] = {"__metadata__": dict(metadata)}
    pieces: list[Piece] = []
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        head[name] = {
            "dtype": _NAMES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        pieces.append(_bytes(tensor))
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)) + text, *pieces]


def size(body: Sequence[Piece]) -> int:
    return sum(len(piece) for piece in body)


def unpack(
    stream: Stream, into: Mapping[str, NDArray[Any]] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors and the metadata of a body. A tensor named in `into` is read into that array, its like."""
    (length,) = struct.unpack("<Q", _read(stream, 8))
    if length > _MAX_HEAD:
        raise ValueError(f"the answer announces a head of {length} bytes: it is no safetensors")
    head = json.loads(bytes(_read(stream, length)))
    metadata = head.pop("__metadata__", {})
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in sorted(head.items(), key=lambda item: int(item[1]["data_offsets"][0])):
        dtype, shape = _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
        tensor = into[name] if into and name in into else np.empty(shape, dtype)
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(
                f"{name} is {entry['dtype']} {list(shape)}, and there is room for {tensor.dtype} {tensor.shape}"
            )
        if tensor.nbytes:
            stream.read_into(_bytes(tensor))
        tensors[name] = tensor
    return tensors, metadata


def _read(stream: Stream, count: int) -> bytearray:
    target = bytearray(count)
    stream.read_into(memoryview(target))
    return target


def _bytes(tensor: NDArray[Any]) -> memoryview:
    return tensor.reshape(-1).data.cast("B") if tensor.nbytes else memoryview(b"")
