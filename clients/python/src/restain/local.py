"""A model in this process: the methods of `Client`, without a server.

    from restain.local import Model

    model = Model("demo")
    variants = model.augment(tiles, variants=4, seed=7).variants

A request passes the same code as in a server, so that its results have the same bytes. It needs the extension of
restain's wheels, and the package `onnxruntime`, whose library it loads: `pip install 'restain[local]'`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import urllib3

from . import errors, wire
from .address import request_headers
from .cancel import Cancellation
from .client import Client
from .tiles import Limits
from .transport import Body, Deadline, Transport, read_answer

try:
    from . import _local
except ImportError as error:
    raise ImportError(
        "restain.local needs the extension restain._local, which the wheels of restain have and a checkout has not: "
        "build them with `make wheels`, and install dist/restain-*.whl"
    ) from error

T = TypeVar("T")

_MANIFEST = "bundle.json"
# Seconds that a call waits beyond its deadline, so that the error of the model arrives first.
_GRACE = 0.5


class Model(Client):
    """A client of the model in `bundle`, which runs in this process.

    `bundle`: the directory of a bundle, NAME/VERSION; or that of a name, for its highest version; or the name of a
    model that the package `restain-server` has, such as `demo`. `threads`: CPU threads for the encoder, and as many for
    the rest; all by default. `precision`: `auto`, `fp32`, `fp16` or `int8`. `devices`: `cpu`, or such as `cuda:0`.
    `cache_memory` limits the cache of encodings; with `cache_dir` it keeps them on disk as well, for one process at a
    time. `forbid_domains`: domains whose styles are never used. `timeout`: seconds for a whole call.

    Threads can share it. A copy, by pickle or by a fork, opens the bundle again when it is used, and has its own cache:
    prefer threads to processes, or start a server for several of them. `close` frees its memory.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = "demo",
        *,
        threads: int | None = None,
        precision: str | None = None,
        devices: str | None = None,
        cache_memory: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        forbid_domains: Sequence[str] = (),
        timeout: float = 600.0,
        limits: Limits | None = None,
    ) -> None:
        self.bundle = _found(bundle)
        self.options: dict[str, Any] = {
            "threads": threads,
            "precision": precision,
            "devices": devices,
            "cache_memory": cache_memory,
            "cache_dir": None if cache_dir is None else os.fspath(cache_dir),
            "forbid_domains": [forbid_domains] if isinstance(forbid_domains, str) else list(forbid_domains),
        }
        super().__init__(timeout=timeout, limits=limits)
        self.url = str(self.bundle)
        # What is wrong with the bundle or the options shows here, and not in the first call.
        self._transport().open()

    def _connect(self, url: str) -> Transport:
        return _InProcess(lambda: _engine(self.bundle, self.options))

    def _transport(self) -> _InProcess:
        transport = self._replicas.every()[0].transport
        assert isinstance(transport, _InProcess)
        return transport


class _InProcess(Transport):
    """Passes requests to a model that is opened when the first one comes."""

    def __init__(self, engine: Callable[[], _local.Engine]) -> None:
        self._new, self._lock = engine, threading.Lock()
        self._engine: _local.Engine | None = None
        self._headers = request_headers(None, None)

    def open(self) -> _local.Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._new()
            return self._engine

    def send(
        self,
        method: str,
        path: str,
        body: Sequence[wire.Piece],
        headers: Mapping[str, str],
        deadline: Deadline,
        read: Callable[[Body], T],
        cancelled: Cancellation | None = None,
    ) -> T:
        cancelled = cancelled or Cancellation()
        sent = list({**self._headers, **headers}.items())
        exchange = self.open().begin(method, path, sent, b"".join(body))
        with cancelled.cutting(exchange.cancel):
            answer = exchange.wait(max(deadline.left(), 0.0) + _GRACE)
        if answer is None:
            raise errors.cancelled_error() if deadline.left() > 0 else deadline.error()
        status, pairs, pieces = answer
        whole = _Pieces(urllib3.HTTPHeaderDict(pairs), pieces)
        if not 200 <= status < 300:
            raise errors.from_answer(status, whole.headers, whole.read())
        return read_answer(whole, status, read)

    def close(self) -> None:
        with self._lock:
            closed, self._engine = self._engine, None
        if closed is not None:
            closed.close()


class _Pieces(Body):
    """The body of an answer that is here already."""

    def __init__(self, headers: Mapping[str, str], pieces: list[bytes]) -> None:
        self.headers = headers
        self._pieces = [memoryview(piece) for piece in pieces]

    def read_into(self, target: memoryview) -> None:
        start = 0
        while start < len(target):
            if not self._pieces:
                raise ValueError(f"the answer ends {len(target) - start} bytes early")
            piece = self._pieces[0]
            taken = piece[: len(target) - start]
            target[start : start + len(taken)] = taken
            start += len(taken)
            self._pieces[:1] = [piece[len(taken) :]] if len(taken) < len(piece) else []

    def read(self) -> bytes:
        read, self._pieces = b"".join(self._pieces), []
        return read


def _engine(bundle: Path, options: Mapping[str, Any]) -> _local.Engine:
    is_version = (bundle / _MANIFEST).is_file()
    models = bundle.parent.parent if is_version else bundle.parent
    try:
        return _local.Engine(models, bundle.relative_to(models).as_posix(), _library(), options)
    except RuntimeError as error:
        raise errors.RestainError(str(error), code="bundle_refused") from None


def _found(bundle: str | os.PathLike[str]) -> Path:
    """Returns the directory of a bundle, NAME/VERSION, or that of a name. Raises `ValueError` if there is none."""
    installed = _installed()
    places = [Path(bundle).absolute()] + ([] if installed is None else [installed / bundle])
    for place in places:
        if (place / _MANIFEST).is_file() or any(place.glob(f"*/{_MANIFEST}")):
            return place
    if installed is None:
        known = "the package restain-server, which has the model demo, is not installed"
    else:
        known = f"the package restain-server has {', '.join(sorted(model.name for model in installed.iterdir()))}"
    raise ValueError(
        f"bundle is {os.fspath(bundle)!r}, and must be the directory NAME/VERSION of a bundle, with a {_MANIFEST}, or "
        f"the name of a model of restain-server; {known}"
    )


def _installed() -> Path | None:
    """The models that the package restain-server has."""
    spec = find_spec("restain_server")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "share" / "restain" / "models"


def _library() -> str:
    """The library of ONNX Runtime: the one that ORT_DYLIB_PATH names, or that of the package `onnxruntime`."""
    named = os.environ.get("ORT_DYLIB_PATH")
    if named:
        return named
    spec = find_spec("onnxruntime")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "capi"
    found = [] if folder is None else sorted(folder.glob("libonnxruntime.so*"))
    if not found:
        raise ImportError("restain.local needs the package onnxruntime: pip install onnxruntime, or set ORT_DYLIB_PATH")
    return str(found[-1])
