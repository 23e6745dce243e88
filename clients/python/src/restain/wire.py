"""Safetensors bodies, written and read without copying the tensors.

The format is a length, a JSON head, and the tensors, little-endian. The `safetensors` package is not used: its reader
of bytes copies every tensor and ignores the metadata, which contains the provenance. Big-endian machines are not
supported.
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
"""A part of a body. Bodies are sent as pieces, without joining them."""

_NAMES = {"uint8": "U8", "int64": "I64", "float16": "F16", "float32": "F32"}
_DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype(np.uint8),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
# More than the head of any response of the server.
_MAX_HEAD = 1 << 30


def json_text(value: Any) -> str:
    """Returns JSON. Numbers and arrays of numpy are written as plain ones.

    >>> json_text({"seed": np.int64(7), "strength": np.float32(0.5), "names": np.array(["a"])})
    '{"seed": 7, "strength": 0.5, "names": ["a"]}'
    """
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    # Also the scalars of torch, which is not imported here.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be sent: {value!r}")


class Stream(Protocol):
    """The body of a response as it arrives."""

    def read_into(self, target: memoryview) -> None:
        """Fills `target`, or raises."""


def pack(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> list[Piece]:
    """Returns a body. Arrays must be C-contiguous, and must not change until it is sent.

    >>> body = pack({"tiles": np.zeros((1, 2, 2, 3), np.uint8)}, {"request": "{}"})
    >>> [type(piece).__name__ for piece in body], len(body[1])
    (['bytes', 'memoryview'], 12)
    """
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
    """Returns the bytes of a body."""
    return sum(len(piece) for piece in body)


def unpack(
    stream: Stream, into: Mapping[str, NDArray[Any]] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Reads the tensors and the metadata of a body. Tensors named in `into` are read into those arrays.

    Raises `ValueError` if the body is not safetensors, or if an array in `into` has another shape or dtype.
    """
    (length,) = struct.unpack("<Q", _read(stream, 8))
    if length > _MAX_HEAD:
        raise ValueError(f"the response is not safetensors: its head would have {length} bytes")
    head = json.loads(bytes(_read(stream, length)))
    metadata = head.pop("__metadata__", {})
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in sorted(head.items(), key=lambda item: int(item[1]["data_offsets"][0])):
        dtype, shape = _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
        tensor = into[name] if into and name in into else np.empty(shape, dtype)
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(
                f"{name} is {entry['dtype']} {list(shape)}, and must be {tensor.dtype} {list(tensor.shape)}"
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
