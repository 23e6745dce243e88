"""One call to one server: tiles by key if the server caches them, with retries until the deadline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import errors, wire
from .cancel import Cancellation
from .mixed import Pixels, packed
from .retry import Retry, is_unanswered, last_error
from .stats import Counters, Reading
from .tiles import Distinct, keys_array
from .transport import Body, Deadline, Transport

T = TypeVar("T")

# The server's codes for a request that succeeds when it is split.
_DIVISIBLE = ("too_many_tiles", "body_too_large", "request_too_large")


@dataclass(frozen=True)
class Call:
    """The settings that all requests of a call share."""

    transport: Transport
    retry: Retry
    deadline: Deadline
    cancelled: Cancellation
    is_alone: bool = True
    """Whether there is only this server. If not, `exchange` does not retry a server that is away: its caller moves
    on."""
    headers: Mapping[str, str] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)

    def exchange(
        self,
        method: str,
        path: str,
        read: Callable[[Body], T],
        body: Callable[[], list[wire.Piece]] = list,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> T:
        """Sends a request, with retries until the deadline. `repeatable`: whether the request is idempotent."""
        attempt, unanswered = 0, 0
        while True:
            attempt += 1
            if self.cancelled.is_set():
                raise errors.cancelled_error()
            try:
                return self._send(method, path, read, body, headers)
            except errors.ServerError as error:
                if self.cancelled.is_set():
                    raise errors.cancelled_error() from None
                if not self.is_alone and isinstance(error, errors.Unavailable):
                    raise
                unanswered += is_unanswered(error)
                if (last := last_error(error, unanswered)) is not None:
                    raise last from error
                wait = self.retry.wait(error, attempt, repeatable)
                if wait is None or wait >= self.deadline.left():
                    raise
                self.counters.add(retries=1)
                self._pause(wait)

    def waited(self, error: errors.ServerError, waits: int) -> bool:
        """Waits until the replicas are asked again, for the `waits`-th time; returns whether they may be."""
        wait = self.retry.wait(error, waits, repeatable=True)
        if wait is None or wait >= self.deadline.left():
            return False
        self._pause(wait)
        return not self.cancelled.is_set()

    def _send(
        self,
        method: str,
        path: str,
        read: Callable[[Body], T],
        body: Callable[[], list[wire.Piece]],
        headers: Mapping[str, str] | None,
    ) -> T:
        reading, began = Reading(read), time.perf_counter()
        pieces = body()
        packed = time.perf_counter()
        sent = {**self.headers, **(headers or {})}
        try:
            return self.transport.send(method, path, pieces, sent, self.deadline, reading, self.cancelled)
        finally:
            self.counters.add(
                requests=1,
                bytes_sent=wire.size(pieces),
                bytes_received=reading.bytes,
                packing=packed - began,
                waiting=time.perf_counter() - packed - reading.seconds,
                unpacking=reading.seconds,
            )

    def _pause(self, seconds: float) -> None:
        with self.counters.timing("pausing"):
            self.cancelled.wait(seconds)


@dataclass(frozen=True)
class Ask:
    """A request about tiles, without the tiles, and its route."""

    path: str
    request: Mapping[str, Any]
    by_key: bool
    """Whether the server can answer from its cache, without a tile's pixels."""
    is_whole: bool
    """Whether tiles must stay in one request and in order, because the result depends on both."""
    references: Pixels | None = None
    slides: Sequence[str | None] | None = None
    """The slide of each tile of the call, if they have several: its id, or None. A request is about tiles that all have
    one, or none."""

    def body(self, tiles: Distinct, sent: list[int], named: list[int], deadline: Deadline) -> list[wire.Piece]:
        """Returns a body with the tiles at `sent` as pixels, followed by those at `named` as keys."""
        tensors: dict[str, NDArray[Any]] = {}
        if sent:
            tensors |= packed("tiles", "shapes", tiles.taken(sent))
        if named:
            tensors["keys"] = keys_array([tiles.keys[place] for place in named])
        if self.references is not None:
            tensors |= packed("references", "reference_shapes", self.references)
        # The server drops requests after their deadline.
        request = {**self.request, "timeout_ms": max(1, int(deadline.left() * 1e3))}
        if tiles.slides is not None:
            request["slide"] = [tiles.slides[place] for place in (*sent, *named)]
        return wire.pack(tensors, {"request": wire.json_text(request)})


@dataclass(frozen=True)
class Answer:
    """A successful response. Its rows are in the order of the request's tiles if `order` is None."""

    tensors: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]
    headers: Mapping[str, str]
    order: list[int] | None
    """For each tile its row of the response; None if they are equal."""


HEADERS = {"Content-Type": wire.SAFETENSORS, "Accept": wire.SAFETENSORS}


def ask(call: Call, ask: Ask, tiles: Distinct, into: Mapping[str, NDArray[Any]]) -> Answer:
    """Sends tiles, and returns the tensors of the response."""
    return _by_key(call, ask, tiles, lambda sent, named: _answer(call, ask, tiles, sent, named, into))


def ask_json(call: Call, ask: Ask, tiles: Distinct) -> Any:
    """Sends tiles, and returns the parsed JSON of the response."""

    def send(sent: list[int], named: list[int]) -> Any:
        headers = {"Content-Type": wire.SAFETENSORS, "Accept": "application/json"}
        return call.exchange("POST", ask.path, read_json, lambda: ask.body(tiles, sent, named, call.deadline), headers)

    return _by_key(call, ask, tiles, send)


def _by_key(call: Call, ask: Ask, tiles: Distinct, send: Callable[[list[int], list[int]], T]) -> T:
    """Sends tiles by key first, and then as pixels those that the server does not cache.

    `send` gets the tiles to send as pixels, and those to send by key.
    """
    every = list(range(len(tiles.keys)))
    missing: set[int] = set() if ask.by_key else set(every)
    rounds = 0
    while True:
        if missing and ask.is_whole:
            missing = set(every)
        sent, named = sorted(missing), [place for place in every if place not in missing]
        call.counters.add(tiles_sent=len(sent))
        try:
            return send(sent, named)
        except errors.TileNotHeld as error:
            rounds += 1
            lost = [named[index] for index in error.indices if index < len(named)]
            # Several servers behind one address may each lack other tiles: the third attempt sends all of them.
            missing = missing | set(lost) if lost and rounds < 3 else set(every)
        except errors.RequestError as error:
            order = {"tile": [*sent, *named], "key": named}.get(error.list or "", [])
            if error.index is None or error.index >= len(order):
                raise
            raise error.at_tile(tiles.first(order[error.index])) from None


def _answer(
    call: Call, ask: Ask, tiles: Distinct, sent: list[int], named: list[int], into: Mapping[str, NDArray[Any]]
) -> Answer:
    order = sent + named
    is_ordered = order == sorted(order)

    def read(body: Body) -> Answer:
        tensors, metadata = wire.unpack(body, into if is_ordered else None)
        places = None if is_ordered else [int(place) for place in np.argsort(order)]
        return Answer(tensors, metadata, dict(body.headers), places)

    return call.exchange("POST", ask.path, read, lambda: ask.body(tiles, sent, named, call.deadline), HEADERS)


def json_of(call: Call, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Sends a request with a JSON body, or none, and returns the parsed JSON of the response."""
    sent: list[wire.Piece] = [] if body is None else [wire.json_text(body).encode()]
    headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
    return call.exchange(method, path, read_json, lambda: sent, headers)


def read_json(body: Body) -> Any:
    return json.loads(body.read())


def is_divisible(error: errors.TooLarge) -> bool:
    """Returns whether halves of the request may succeed: the server says so, or a proxy, whose errors have no code."""
    return error.code in _DIVISIBLE or not error.code
