"""Where the time of a client goes: counters of its requests, and of the seconds in each step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from .transport import Body

T = TypeVar("T")


@dataclass(frozen=True)
class Stats:
    """What a client has done in this process since it was made: the difference of two is that of the time between.

    Seconds are sums over all threads, so that they exceed the clock's where requests overlap.

    >>> print(Stats(requests=3, tiles=64, tiles_sent=32, bytes_sent=885_000, waiting=0.25) - Stats(requests=1))
    2 requests, 0 retries; 64 tiles, 32 of them sent; 0.9 MB sent, 0.0 MB received; 0.25 s waiting for the server, \
0.00 s hashing, 0.00 s packing, 0.00 s unpacking, 0.00 s paused before retries
    """

    requests: int = 0
    """Requests that were sent, with those that failed or were rejected."""
    retries: int = 0
    """Requests that were sent again, to the same server or another."""
    tiles: int = 0
    """Tiles that variants or encodings came for."""
    tiles_sent: int = 0
    """Tiles that were sent as pixels, because the server did not cache them."""
    bytes_sent: int = 0
    bytes_received: int = 0
    waiting: float = 0.0
    """Seconds from the beginning of a request to the beginning of its response."""
    hashing: float = 0.0
    """Seconds for the keys of tiles, and their assignment to requests."""
    packing: float = 0.0
    """Seconds to make the bodies of requests."""
    unpacking: float = 0.0
    """Seconds to receive and read the bodies of responses."""
    pausing: float = 0.0
    """Seconds between a failure and the next attempt."""

    def __sub__(self, earlier: Stats) -> Stats:
        then = asdict(earlier)
        return Stats(**{name: value - then[name] for name, value in asdict(self).items()})

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.retries} retries; {self.tiles} tiles, {self.tiles_sent} of them sent; "
            f"{self.bytes_sent / 1e6:.1f} MB sent, {self.bytes_received / 1e6:.1f} MB received; "
            f"{self.waiting:.2f} s waiting for the server, {self.hashing:.2f} s hashing, {self.packing:.2f} s packing, "
            f"{self.unpacking:.2f} s unpacking, {self.pausing:.2f} s paused before retries"
        )


class Counters:
    """The sums behind `Stats`. Threads share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, float] = asdict(Stats())

    def add(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._sums[name] += amount

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Adds the seconds of a block to `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(**{name: time.perf_counter() - began})

    def stats(self) -> Stats:
        with self._lock:
            return Stats(**self._sums)  # type: ignore[arg-type]


class Reading(Generic[T]):
    """A function that reads a response, with its seconds and bytes."""

    def __init__(self, read: Callable[[Body], T]) -> None:
        self._read = read
        self.seconds, self.bytes = 0.0, 0

    def __call__(self, body: Body) -> T:
        counted, began = _Counted(body), time.perf_counter()
        try:
            return self._read(counted)
        finally:
            self.seconds, self.bytes = time.perf_counter() - began, counted.bytes


class _Counted(Body):
    def __init__(self, body: Body) -> None:
        self.headers, self.bytes, self._body = body.headers, 0, body

    def read_into(self, target: memoryview) -> None:
        self._body.read_into(target)
        self.bytes += len(target)

    def read(self) -> bytes:
        read = self._body.read()
        self.bytes += len(read)
        return read
