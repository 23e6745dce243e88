"""The client: tiles in, variants out, with whatever it takes on the way."""

from __future__ import annotations

import json
import os
import secrets
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import numpy as np
from numpy.typing import NDArray

from . import call as calls
from . import errors, wire
from .answers import Augmented, Domain, EncoderModel, Encodings, ModelInfo, Styles, Timings
from .bank import StyleBank
from .call import Answer, Ask, Call
from .retry import Retry
from .style import Method, Priority, Style
from .tiles import Distinct, Limits, Tiles, as_tiles
from .transport import Body, Deadline, Transport

T = TypeVar("T")
OnError = Literal["raise", "original"]

MAX_SEED = (1 << 53) - 1
_USER_AGENT = "restain-python/0.1.0"
_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


class Client:
    """A restain server, from any number of threads.

    It may be pickled and lives through a fork, so that it can sit in a `Dataset`: what travels is how it was made, and
    connections are opened where they are used.

    `timeout`: seconds for a whole call, its retries and all its requests. `on_error`: with `"original"` copies of the
    tiles stand in for variants when the server is away or fails for longer than that. It warns once, says so in
    `Augmented.failed`, and until the server is back each further call tries once. Wrong requests raise all the same.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        model: str | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        on_error: OnError = "raise",
        retry: Retry | None = None,
        limits: Limits | None = None,
        connections: int = 8,
        headers: Mapping[str, str] | None = None,
        ca_certs: str | None = None,
    ) -> None:
        if on_error not in ("raise", "original"):
            raise ValueError(f'on_error is {on_error!r}, and must be "raise" or "original"')
        self.url = url
        self.model = model
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.on_error: OnError = on_error
        self.retry = retry or Retry()
        self.limits = limits or Limits()
        self.connections = connections
        self.headers = {"User-Agent": _USER_AGENT, **(headers or {})}
        self.ca_certs = ca_certs
        self._open()

    def _open(self) -> None:
        """What belongs to a process: nothing of it is inherited or pickled."""
        self._transport = Transport(self.url, self.connections, self.connect_timeout, self.headers, self.ca_certs)
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        # Whether the server failed us, and nothing has gone well since.
        self._is_down = False
        # The largest portion that this server took, when it takes less than it might.
        self._portion: int | None = None
        _CLIENTS.add(self)

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
        """Closes the connections. A call after it opens new ones."""
        self._transport.close()
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()

    # Tiles.

    def augment(
        self,
        tiles: Tiles,
        *,
        variants: int = 1,
        seed: int | None = None,
        model: str | None = None,
        method: Method | None = None,
        style: Style | None = None,
        strength: float | None = None,
        resize: bool = False,
        priority: Priority | None = None,
        timeout: float | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> Augmented:
        """`variants` of each tile, in other stains.

        The same tile, seed and model give the same variants, whichever call they are in. Without a seed one is drawn,
        and the answer has it. What is left out is as the server has it. `out`: uint8 [n, variants, H, W, 3],
        C-contiguous, to be filled and handed back as `Augmented.variants`, for a caller with memory of its own.
        """
        pixels = as_tiles(tiles)
        if variants < 1:
            raise ValueError(f"variants is {variants}, and must be at least 1")
        shape = (len(pixels), variants, *pixels.shape[1:])
        made = np.empty(shape, np.uint8) if out is None else _room(out, shape)
        seed = secrets.randbits(53) if seed is None else seed
        request = {
            "variants": variants,
            "seed": seed,
            "model": model or self.model,
            "method": method,
            "strength": strength,
            "resize": resize,
            "priority": priority,
            "style": None if style is None else style.to_json(),
        }
        ask = Ask(
            "/v1/augment",
            {name: value for name, value in request.items() if value is not None},
            by_key=method in (None, "vit"),
            is_whole=style is not None and style.is_of_batch,
            references=None if style is None or style.references is None else as_tiles(style.references),
        )
        failed = np.zeros(len(pixels), bool)
        records: list[list[Mapping[str, Any] | str]] = []
        timings: list[Timings] = []

        def one(call: Call, start: int, stop: int) -> list[tuple[int, list[Mapping[str, Any] | str], Timings | None]]:
            room = made[start:stop]
            try:
                return [(start, *_variants(*self._portion_of(call, ask, pixels[start:stop], {"variants": room}), room))]
            except errors.ServerError as error:
                if self.on_error != "original":
                    raise
                self._warn(error)
                room[:] = pixels[start:stop, None]
                failed[start:stop] = True
                return [(start, _originals(pixels[start:stop], variants, seed), None)]

        answer_bytes = variants * pixels[0].nbytes
        for _, record, timing in sorted(
            self._portions(ask, pixels, answer_bytes, timeout, one), key=lambda part: part[0]
        ):
            records.append(record)
            timings.extend([timing] if timing else [])
        return Augmented(made, seed, failed, tuple(timings), tuple(entry for record in records for entry in record))

    def encode(
        self,
        tiles: Tiles,
        *,
        model: str | None = None,
        resize: bool = False,
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> Encodings:
        """Tiles as the encoder sees them, for `synthesise`. Failures raise, whatever `on_error` says."""
        pixels = as_tiles(tiles)
        request = {"model": model or self.model, "resize": resize, "priority": priority}
        ask = Ask("/v1/encode", {name: value for name, value in request.items() if value is not None}, True, False)

        def one(call: Call, start: int, stop: int) -> list[tuple[int, Encodings]]:
            return [(start, _encodings(*self._portion_of(call, ask, pixels[start:stop], {})))]

        # An encoding is twice a tile's pixels, and of f16: four times their bytes.
        parts = sorted(self._portions(ask, pixels, 4 * pixels[0].nbytes, timeout, one), key=lambda part: part[0])
        encodings = [part for _, part in parts]
        if len(encodings) == 1:
            return encodings[0]
        return Encodings(
            np.concatenate([part.anatomy for part in encodings]),
            np.concatenate([part.characteristics for part in encodings]),
            tuple(key for part in encodings for key in part.keys),
            encodings[0].model,
        )

    # The style bank.

    def styles(self, model: str | None = None) -> Styles:
        """The style bank, by domain."""
        bank = self._json("GET", f"/v1/styles{self._query(model)}")
        domains = tuple(Domain.from_json(domain) for domain in bank["domains"])
        return Styles(bank["model"], bank["version"], bank["persistent"], domains)

    def style_bank(self, model: str | None = None) -> StyleBank:
        """The style bank with its numbers, for `synthesise`."""
        path = f"/v1/styles{self._query(model)}"
        headers = {"Accept": wire.SAFETENSORS}
        return StyleBank.of(*self._call(None).exchange("GET", path, wire.unpack, headers=headers))

    def add_styles(
        self,
        domain: str,
        tiles: Tiles,
        *,
        styles: int | None = None,
        model: str | None = None,
        resize: bool = False,
        timeout: float | None = None,
    ) -> Domain:
        """Adds a domain to the bank from some of its tiles. Requests use it when they name it."""
        asked = {"domain": domain, "model": model or self.model, "styles": styles, "resize": resize}
        metadata = {"request": json.dumps({name: value for name, value in asked.items() if value is not None})}
        body = wire.pack({"tiles": as_tiles(tiles)}, metadata)
        headers = {"Content-Type": wire.SAFETENSORS, "Accept": "application/json"}
        # Said twice it would be refused, and be taken for somebody else's domain.
        answer = self._call(timeout).exchange("POST", "/v1/styles", Body.read, lambda: body, headers, repeatable=False)
        return Domain.from_json(json.loads(answer))

    def remove_styles(self, domain: str, *, model: str | None = None) -> None:
        """Removes a domain that was added."""
        path = f"/v1/styles/{quote(domain, safe='')}{self._query(model)}"
        self._call(None).exchange("DELETE", path, Body.read, repeatable=False)

    # Models.

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(ModelInfo.from_json(entry) for entry in self._json("GET", "/v1/models")["models"])

    def load_model(
        self, name: str, *, version: str | None = None, default: bool = False, timeout: float | None = None
    ) -> ModelInfo:
        """Loads a bundle of the server's models directory; returns once it is served."""
        body = {"default": default} if version is None else {"default": default, "version": version}
        return ModelInfo.from_json(self._json("POST", f"/v1/models/{quote(name, safe='')}/load", body, timeout))

    def unload_model(self, name: str, *, version: str | None = None) -> tuple[str, ...]:
        """Unloads a version, or all of them; what was unloaded, as NAME/VERSION."""
        body = {} if version is None else {"version": version}
        return tuple(self._json("POST", f"/v1/models/{quote(name, safe='')}/unload", body)["unloaded"])

    def ready(self) -> bool:
        """Whether the server takes requests now. One question, asked once."""
        deadline = Deadline.within(self.connect_timeout)
        try:
            self._transport.send("GET", "/health/ready", [], {}, deadline, Body.read)
        except errors.ServerError:
            return False
        return True

    # Inside.

    def _query(self, model: str | None) -> str:
        named = model or self.model
        return f"?{urlencode({'model': named})}" if named else ""

    def _call(self, timeout: float | None) -> Call:
        is_quick = self._is_down and self.on_error == "original"
        retry = Retry(attempts=1) if is_quick else self.retry
        return Call(
            self._transport,
            retry,
            Deadline.within(self.timeout if timeout is None else timeout),
            _cancelled_of_thread(),
        )

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout: float | None = None) -> Any:
        sent: list[wire.Piece] = [] if body is None else [json.dumps(body).encode()]
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        return json.loads(self._call(timeout).exchange(method, path, Body.read, lambda: sent, headers))

    def _portions(
        self,
        ask: Ask,
        pixels: NDArray[np.uint8],
        answer_bytes: int,
        timeout: float | None,
        one: Callable[[Call, int, int], list[T]],
    ) -> list[T]:
        """`one` for as many tiles at a time as the server takes, several at once."""
        call = self._call(timeout)
        count, references = len(pixels), 0 if ask.references is None else len(ask.references)
        size = self.limits.portion(pixels[0].nbytes, answer_bytes, references)
        size = count if ask.is_whole else min(size, self._portion or size)

        def divided(start: int, stop: int) -> list[T]:
            try:
                return one(call, start, stop)
            except errors.TooLarge as error:
                if stop - start == 1 or ask.is_whole or not calls.is_divisible(error):
                    raise
                self._portion = (stop - start + 1) // 2
                middle = start + self._portion
                return divided(start, middle) + divided(middle, stop)

        spans = [(start, min(start + size, count)) for start in range(0, count, size)]
        if len(spans) == 1:
            return divided(*spans[0])
        futures = [self._pool().submit(divided, *span) for span in spans]
        try:
            return [part for future in futures for part in future.result()]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.connections, thread_name_prefix="restain")
            return self._threads

    def _portion_of(
        self, call: Call, ask: Ask, pixels: NDArray[np.uint8], into: Mapping[str, NDArray[Any]]
    ) -> tuple[Answer, Distinct]:
        if not ask.by_key:
            tiles = Distinct(pixels, [b""] * len(pixels), None)
        elif ask.is_whole:
            tiles = Distinct.as_given(pixels)
        else:
            tiles = Distinct.of(pixels)
        answer = calls.ask(call, ask, tiles, into if tiles.places is None else {})
        self._is_down = False
        return answer, tiles

    def _warn(self, error: errors.ServerError) -> None:
        with self._lock:
            is_news, self._is_down = not self._is_down, True
        if is_news:
            warnings.warn(
                f"{error}; until {self.url} answers again, originals stand in for variants",
                RuntimeWarning,
                stacklevel=4,
            )


_of_thread = threading.local()


def _cancelled_of_thread() -> threading.Event:
    """What tells calls of this thread that nobody waits for them: set by the asynchronous client, never otherwise."""
    event: threading.Event = getattr(_of_thread, "cancelled", None) or threading.Event()
    return event


def run_cancellable(cancelled: threading.Event, work: Callable[[], T]) -> T:
    """Does `work` in this thread; its calls try nothing more once `cancelled` is set."""
    _of_thread.cancelled = cancelled
    try:
        return work()
    finally:
        _of_thread.cancelled = None


def _room(out: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {list(out.shape)}, and must be uint8 {list(shape)} and C-contiguous")
    return out


def _rows(answer: Answer, tiles: Distinct) -> NDArray[np.intp] | None:
    """For each tile of the call its row of the answer; None when they are the same."""
    if answer.order is None:
        return tiles.places
    order = np.array(answer.order)
    return order if tiles.places is None else order[tiles.places]


def _variants(
    answer: Answer, tiles: Distinct, room: NDArray[np.uint8]
) -> tuple[list[Mapping[str, Any] | str], Timings]:
    rows, made = _rows(answer, tiles), answer.tensors["variants"]
    records: list[Mapping[str, Any] | str] = [answer.metadata["provenance"]]
    if rows is not None:
        np.take(made, rows, axis=0, out=room)
        told, count = json.loads(answer.metadata["provenance"]), made.shape[1]
        records = [told[row * count + k] for row in rows for k in range(count)]
    elif made is not room:
        room[:] = made
    return records, _timings(answer.headers.get("server-timing", ""))


def _encodings(answer: Answer, tiles: Distinct) -> Encodings:
    rows, keys = _rows(answer, tiles), json.loads(answer.metadata["keys"])
    anatomy, characteristics = answer.tensors["anatomy"], answer.tensors["characteristics"]
    if rows is not None:
        anatomy, characteristics, keys = anatomy[rows], characteristics[rows], [keys[row] for row in rows]
    return Encodings(anatomy, characteristics, tuple(keys), EncoderModel.from_json(answer.metadata["model"]))


def _originals(pixels: NDArray[np.uint8], variants: int, seed: int) -> list[Mapping[str, Any] | str]:
    keys = [key.hex() for key in Distinct.as_given(pixels).keys]
    same: dict[str, Any] = {
        "model": "",
        "version": "",
        "bundle": "",
        "seed": seed,
        "method": "original",
        "style": None,
        "domain": None,
    }
    return [{**same, "tile_key": key, "index": k} for key in keys for k in range(variants)]


def _timings(header: str) -> Timings:
    """Of `queue;dur=0.1, encode;dur=2.0`."""
    told: dict[str, float] = {}
    for entry in header.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        if name in ("queue", "encode", "synthesise", "total") and duration:
            told[f"{name}_ms"] = float(duration)
    return Timings(**told)


def _after_fork() -> None:
    for client in list(_CLIENTS):
        client._open()


# A forked process shares its parent's sockets and has none of its threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
