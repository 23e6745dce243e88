"""The synchronous client: caching by key, splitting of large calls, retries, and routing to replicas."""

from __future__ import annotations

import operator
import secrets
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from . import call as calls
from . import cancel, errors, replicas, rows, slides
from .address import request_headers, server_urls
from .answers import Augmented
from .call import Ask, Call
from .contexts import OfSlides
from .encode_calls import EncodeCalls
from .forks import open_in_forks
from .mixed import Pixels
from .model_calls import ModelCalls
from .portions import Delivery, Portion, Split
from .rendezvous import SHARDS
from .replicas import Replica, Replicas
from .retry import Retry, is_unanswered, last_error
from .room import Room, room_for
from .stats import Counters, Stats
from .style import Detail, Method, Priority, Style, strengths
from .style_calls import StyleCalls
from .threads import Threads
from .tiles import Distinct, Limits, Tiles, as_pixels
from .transport import Deadline, Transport, certificates

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import AugmentOptions

T = TypeVar("T")
OnError = Literal["raise", "original"]
Spread = Literal["dns", "gateway"]

MAX_SEED = (1 << 53) - 1
# The most requests in flight of a client with replicas. Threads are started only when they are needed.
_THREADS = 64


class Client(EncodeCalls, ModelCalls, StyleCalls):
    """A client of a restain server, or of several replicas. Any number of threads can share it.

    `url`: one address (`http` if it has no scheme), or a list with one address for each replica. With `spread="dns"`
    the replicas are all addresses of the name in `url`, as with a headless Service, and the client resolves the name
    again periodically. It routes each tile to the replica that caches it, and to another one while that is unavailable.
    With `spread="gateway"` a proxy routes requests by the header `x-restain-shard`: tiles have `shards` shards, the
    same number in all clients, and a call becomes at most as many requests. The results have the same bytes for any
    number of replicas.

    A client can be pickled and survives a fork, so that it can be part of a `Dataset`: a copy keeps the arguments and
    opens its own connections.

    `timeout`: seconds for a whole call, with its retries and all its requests. `on_error`: with `"original"` a call
    returns copies of the tiles instead of variants if the server is unavailable or fails until the timeout. It warns
    once and marks the tiles in `Augmented.failed`; until the server recovers, further calls are not retried. Errors
    of the request are raised in any case.

    `key`: the token, if the server requires one; by default the environment variable RESTAIN_KEY. `ca_certs`: a PEM
    file of root certificates to trust instead of the system's. `client_cert`: the PEM files of a certificate and its
    private key, if the server requires client certificates. Both need `https://`.
    """

    def __init__(
        self,
        url: str | Sequence[str] = "http://127.0.0.1:8080",
        *,
        spread: Spread | None = None,
        shards: int = 32,
        model: str | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        on_error: OnError = "raise",
        retry: Retry | None = None,
        limits: Limits | None = None,
        connections: int = 8,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        ca_certs: str | None = None,
        client_cert: tuple[str, str] | None = None,
    ) -> None:
        if on_error not in ("raise", "original"):
            raise ValueError(f'on_error is {on_error!r}, and must be "raise" or "original"')
        if spread not in (None, "dns", "gateway"):
            raise ValueError(f'spread is {spread!r}, and must be "dns", "gateway" or None')
        if not 1 <= shards <= SHARDS:
            raise ValueError(f"shards is {shards}, and must be from 1 to {SHARDS}")
        if not isinstance(url, str) and (spread is not None or not url):
            raise ValueError("a list of addresses must have at least one, and takes no `spread`")
        self.url = server_urls(url if isinstance(url, str) else tuple(url))
        self.spread = spread
        self.shards = shards
        self.model = model
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.on_error: OnError = on_error
        self.retry = retry or Retry()
        self.limits = limits or Limits()
        self.connections = connections
        self.headers = request_headers(key, headers)
        self.ca_certs = ca_certs
        self.client_cert = client_cert
        self._open()

    def _open(self) -> None:
        """Creates the state of this process, which is neither inherited by a fork nor pickled."""
        urls = (self.url,) if isinstance(self.url, str) else self.url
        self._replicas = Replicas(urls, self._connect, by_name=self.spread == "dns")
        self._lock = threading.Lock()
        self._counters = Counters()
        is_one = self._replicas.is_alone and self.spread is None
        self._threads = Threads(self.connections if is_one else max(self.connections, _THREADS), "restain")
        self._cancelled = cancel.Cancellation(cancel.of_process())
        # Whether the last call failed.
        self._is_down = False
        # The largest portion that this server accepted, if it is below the limits.
        self._portion: int | None = None
        open_in_forks(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; running calls raise `Cancelled`. A later call opens new ones."""
        running, self._cancelled = self._cancelled, cancel.Cancellation(cancel.of_process())
        running.set()
        self._threads.close()
        self._replicas.close()

    # Tiles.

    @overload
    def augment(
        self,
        tiles: NDArray[np.uint8],
        *,
        variants: int = 1,
        seed: int | None = None,
        out: NDArray[np.uint8] | None = None,
        **options: Unpack[AugmentOptions],
    ) -> Augmented: ...
    @overload
    def augment(
        self,
        tiles: Sequence[Any],
        *,
        variants: int = 1,
        seed: int | None = None,
        out: NDArray[np.uint8] | None = None,
        **options: Unpack[AugmentOptions],
    ) -> Augmented[Any]: ...
    def augment(
        self,
        tiles: Tiles,
        *,
        variants: int = 1,
        seed: int | None = None,
        model: str | None = None,
        method: Method | None = None,
        style: Style | None = None,
        slide: str | Sequence[str | None] | OfSlides | None = None,
        strength: float | tuple[float, float] | None = None,
        detail: Detail | None = None,
        mpp: float | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> Augmented[Any]:
        """Returns `variants` variants of each tile, in other stains.

        The same tile, seed and model give the same variants in every call. If you omit `seed`, the client draws one and
        returns it. The server's defaults apply to other omitted options. `out`: uint8 [n, variants, H, W, 3],
        C-contiguous; the variants are written to it, and it is returned as `Augmented.variants`.

        Tiles have from 16 to 8,192 pixels a side, and their variants the same size. For tiles of several sizes,
        `Augmented.variants` is a list of arrays uint8 [variants, H, W, 3], and `out` cannot be given. With `detail`
        `model`, the model's reconstruction alone, variants have the model's size, whatever that of the tiles is.

        `mpp`: the size of the tiles' pixels, µm. The model sees them at magnifications that its bundle says it knows.

        `slide`: the slides that the tiles are from, one id of `add_slide` for all tiles, one or None for each, or their
        names: `SlideContexts.of`. The change of stain then starts from the slide's stain instead of the tile's own
        colours, which depend on what is in it.
        """
        pixels, variants = as_pixels(tiles), operator.index(variants)
        if variants < 1:
            raise ValueError(f"variants is {variants}, and must be at least 1")
        made = room_for(pixels, variants, out, of_model=detail == "model")
        seed = secrets.randbits(53) if seed is None else operator.index(seed)
        request = {
            "variants": variants,
            "seed": seed,
            "model": model or self.model,
            "method": method,
            **strengths(strength),
            "detail": detail,
            "mpp": mpp,
            "priority": priority,
            "style": None if style is None else style.to_json(),
        }
        ask = Ask(
            "/v1/augment",
            {name: value for name, value in request.items() if value is not None},
            by_key=method in (None, "vit"),
            is_whole=style is not None and style.is_of_batch,
            references=None if style is None or style.references is None else as_pixels(style.references),
        )

        def of_slides(ids: slides.Ids) -> Augmented[Any]:
            return self._augmented(slides.asked(ask, ids, len(pixels), style), pixels, made, variants, seed, timeout)

        if not isinstance(slide, OfSlides):
            return of_slides(slide)
        try:
            return slide.settled(of_slides)
        except errors.ServerError as error:
            if self.on_error != "original":
                raise
            self._warn(error)
            every = Portion(slice(0, len(pixels)), None, self._replicas.every()[0], {})
            kept = [(every, made.keep(every, seed))]
            return rows.augmented(made.variants, seed, np.ones(len(pixels), bool), kept)

    def _augmented(
        self, ask: Ask, pixels: Pixels, made: Room, variants: int, seed: int, timeout: float | None
    ) -> Augmented[Any]:
        failed = np.zeros(len(pixels), bool)

        def one(call: Call, portion: Portion) -> rows.Made:
            return made.fill(portion, lambda into: self._asked(call, ask, portion, pixels, into))

        def originals(portion: Portion, error: errors.ServerError) -> rows.Made | None:
            if self.on_error != "original":
                return None
            self._warn(error)
            failed[portion.places] = True
            return made.keep(portion, seed)

        answered = self._delivered(ask, pixels, variants, timeout, one, originals)
        return rows.augmented(made.variants, seed, failed, answered)

    def ready(self) -> bool:
        """Returns whether the server, or one of its replicas, is ready. Sends one probe to each, without retries."""
        every = self._replicas.every()
        return any(replicas.is_ready(replica.transport, self.connect_timeout) for replica in every)

    def stats(self) -> Stats:
        """Returns where the client's time went, in this process: `print(client.stats())`."""
        return self._counters.stats()

    # Inside.

    def _connect(self, url: str) -> Transport:
        # A call through a gateway sends as many requests at once as it has shards.
        connections = max(self.connections, self.shards) if self.spread == "gateway" else self.connections
        named = self.url if self.spread == "dns" and isinstance(self.url, str) else None
        proof = certificates(self.ca_certs, self.client_cert)
        return Transport(url, connections, self.connect_timeout, self.headers, proof, named)

    def _call(self, timeout: float | None, replica: Replica) -> Call:
        is_quick = self._is_down and self.on_error == "original"
        retry = Retry(attempts=1) if is_quick else self.retry
        deadline = Deadline.within(float(self.timeout if timeout is None else timeout))
        cancelled, is_alone = cancel.of_call(self._cancelled), self._replicas.is_alone
        return Call(replica.transport, retry, deadline, cancelled, is_alone, counters=self._counters)

    def _anywhere(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        """Sends a request to any replica."""
        split = Split(self._replicas, None, is_whole=True, by_key=False)
        portions = split.of(slice(0, 0), None)
        call = self._call(timeout, portions[0].replica)
        delivery = Delivery(call, split, lambda call, _: ask(call), lambda portion, error: None, self._takes)
        return delivery.all_of(portions, self._threads)[0][1]

    def _everywhere(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        """Sends a request that changes a server to every replica; returns the last response."""
        self._refuse_gateway()
        every = self._replicas.every()
        return [ask(replace(self._call(timeout, replica), is_alone=True)) for replica in every][-1]

    def _on_usable(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        """Sends a request to the replicas that are there, and waits for one; returns the last response."""
        self._refuse_gateway()
        call, waits, unanswered, answers = self._call(timeout, self._replicas.every()[0]), 0, 0, []
        while True:
            for replica in self._replicas.usable() or self._replicas.every():
                try:
                    answers.append(ask(replace(call, transport=replica.transport)))
                except errors.Unavailable as error:
                    if call.is_alone:
                        raise
                    self._replicas.leave_out(replica)
                    unanswered += is_unanswered(error)
                    failure = last_error(error, unanswered) or error
                    if failure is not error:
                        raise failure from error
            if answers:
                return answers[-1]
            waits += 1
            if not call.waited(failure, waits):
                raise failure

    def _refuse_gateway(self) -> None:
        if self.spread == "gateway":
            raise errors.InvalidRequest(
                "a gateway forwards this to one replica only: send it to each replica's own address",
                code="behind_gateway",
            )

    def _delivered(
        self,
        ask: Ask,
        pixels: Pixels,
        answer_share: int,
        timeout: float | None,
        one: Callable[[Call, Portion], T],
        instead: Callable[[Portion, errors.ServerError], T | None],
    ) -> list[tuple[Portion, T]]:
        """Splits the tiles into portions that a server accepts, and calls `one` for each, several at once."""
        references = [] if ask.references is None else [reference.nbytes for reference in ask.references]

        def bounds(tiles: Pixels) -> list[tuple[int, int]]:
            if ask.is_whole:
                return [(0, len(tiles))]
            return self.limits.bounds([tile.nbytes for tile in tiles], answer_share, references, self._portion)

        shards = self.shards if self.spread == "gateway" else None
        split = Split(self._replicas, shards, ask.is_whole, ask.by_key)
        with self._counters.timing("hashing"):
            portions = [part for portion in split.all_of(pixels, bounds) for part in portion.by_slide(pixels, ask)]
        call = self._call(timeout, portions[0].replica)
        return Delivery(call, split, one, instead, self._takes).all_of(portions, self._threads)

    def _takes(self, tiles: int) -> None:
        self._portion = tiles

    def _asked(
        self, call: Call, ask: Ask, portion: Portion, pixels: Pixels, into: Mapping[str, NDArray[Any]]
    ) -> tuple[calls.Answer, Distinct]:
        with self._counters.timing("hashing"):
            tiles = portion.tiles(pixels, ask)
        try:
            answer = calls.ask(call, ask, tiles, into if tiles.places is None else {})
        except errors.RequestError as error:
            if error.list != "tile" or error.index is None:
                raise
            raise error.at_tile(int(portion.indices()[error.index])) from None
        self._is_down = False
        self._counters.add(tiles=len(portion))
        return answer, tiles

    def _warn(self, error: errors.ServerError) -> None:
        with self._lock:
            is_news, self._is_down = not self._is_down, True
        if is_news:
            text = f"{error}; originals stand in for variants until {self.url} answers"
            warnings.warn(text, RuntimeWarning, stacklevel=4)
