"""Contexts of slides by name: some tiles of each slide are drawn, and added to the server once, when they are needed.

The id of a context is a hash of its tiles. Processes that draw the same tiles therefore get the same id, and need no
agreement: a context that was added before is not added again.
"""

from __future__ import annotations

import mmap
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from . import errors
from .call import is_divisible
from .forks import open_in_forks
from .tiles import as_tiles
from .tissue import has_tissue

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")
Name = Any
"""A slide's name: a string or a number, of numpy or torch too; None for a tile of an unknown slide."""

# How many tiles of a slide are looked at, for each that is drawn: tiles without tissue are left out.
_LOOKS = 4
# How often a call adds contexts again that the server has lost.
_RENEWALS = 2
# Why tiles have no context: each reason is warned of once.
_FEW, _REFUSED = range(2)


class Samples(Protocol):
    """A sequence, or a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class OfSlides:
    """The slides of some tiles by name, for `Client.augment`."""

    def __init__(self, contexts: SlideContexts, names: Sequence[Name]) -> None:
        self._contexts = contexts
        self._names = names
        self._ids: list[str | None] | None = None
        self._error: errors.ServerError | None = None
        self._is_prepared = False

    def prepare(self) -> OfSlides:
        """Adds the contexts here: afterwards calls in other threads read no tile. An error of the server is theirs."""
        self._ids, self._error, self._is_prepared = None, None, True
        try:
            self._ids = self._contexts.ids(self._names)
        except errors.ServerError as error:
            self._error = error
        return self

    def settled(self, ask: Callable[[list[str | None]], T]) -> T:
        """Calls `ask` with the id of each tile's context, and again if the server has lost one of them."""

        def asked() -> T:
            if self._error is not None:
                raise self._error
            return ask(self._contexts.ids(self._names) if self._ids is None else self._ids)

        return asked() if self._is_prepared else self.renewing(asked)

    def renewing(self, asked: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Calls `asked`, and after it has raised `unknown_slide` adds the contexts in this thread and calls `again`."""
        for _ in range(_RENEWALS):
            try:
                return asked()
            except errors.InvalidRequest as error:
                if error.code != "unknown_slide":
                    raise
            self._contexts.forget(self._names)
            if self._is_prepared:
                self.prepare()
            asked = again or asked
        return asked()


class SlideContexts:
    """The contexts of the slides that `tiles` are from.

    `tiles`: uint8 [n, H, W, 3], or any sequence or dataset of tiles or of samples with them. `slide_of`: the name of
    each tile's slide, a sequence as long as `tiles`; or where a sample has it, a key or index, or a function of the
    sample. In the latter case every sample is read once, here. `tile_of` returns the tile of a sample, uint8 [H, W, 3]
    or a PIL image, and is the sample itself by default.

    When a slide is first named, `count` of its tiles with tissue are drawn, the same in every process and run, and
    added to the server of `client` as a context. For a slide with less than `fewest`, and for those that the server
    refuses because it has 4,096 of them, there is a warning, and tiles start from their own colours. A server that has
    lost a context, for example by a restart, gets it again.

    `mpp`: the size of the tiles' pixels, µm, as in `Client.augment`.

    `tiles` must give the same pixels each time: put random crops and changes of colour after restain.
    """

    def __init__(
        self,
        client: Client,
        tiles: Samples,
        slide_of: Sequence[Name] | Callable[[Any], Name] | str | int,
        *,
        count: int = 16,
        fewest: int = 4,
        seed: int = 0,
        model: str | None = None,
        mpp: float | None = None,
        tile_of: Callable[[Any], Any] | None = None,
    ) -> None:
        if not 1 <= fewest <= count:
            raise ValueError(f"fewest is {fewest}, and must be from 1 to count, which is {count}")
        self.client = client
        self.count, self.fewest, self.seed, self.model, self.mpp = count, fewest, seed, model, mpp
        self._tiles, self._tile_of = tiles, tile_of
        self._slide_of = slide_of if _is_in_samples(slide_of) else None
        self._slides = _Slides.of(names_of(tiles, slide_of))
        self._open_with(b"")

    def _open_with(self, known: bytes) -> None:
        self._known = _Known(len(self._slides), known)
        self._open()

    def _open(self) -> None:
        # In a forked process another thread may hold the lock for ever.
        self._lock = threading.RLock()
        open_in_forks(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_known": self._known.content()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_with(state["_known"])

    def of(self, names: Sequence[Name]) -> OfSlides:
        """Returns the slides of tiles by their names, one for each tile, for `Client.augment(tiles, slide=...)`."""
        return OfSlides(self, self._checked(names))

    def of_samples(self, samples: Sequence[Any]) -> OfSlides:
        """Returns the slides of samples. Raises `ValueError` if samples do not have their slides' names."""
        if self._slide_of is None:
            raise ValueError(
                "slide_of is a list of names here, so that the slide of a sample is unknown: "
                "give the key of the name in a sample, or a function of the sample"
            )
        return self.of([_name_in(sample, self._slide_of) for sample in samples])

    def of_places(self, places: Sequence[int]) -> OfSlides:
        """Returns the slides of the tiles with these indices."""
        return self.of([self._slides.name_at(place) for place in places])

    def ids(self, names: Sequence[Name]) -> list[str | None]:
        """Returns the id of each slide's context, and adds those that are new; None for a slide without a context."""
        plain = self._checked(names)
        with self._lock:
            each = {name: self._id_of(name) for name in dict.fromkeys(plain)}
        return [each[name] for name in plain]

    def forget(self, names: Sequence[Name]) -> None:
        """Forgets that contexts were added."""
        for name in _plain(names):
            if name is not None:
                self._known.forget(self._slides.number(name))

    def _checked(self, names: Sequence[Name]) -> list[str | None]:
        plain = _plain(names)
        for name in set(plain):
            if name is not None:
                self._slides.number(name)
        return plain

    def _id_of(self, name: str | None) -> str | None:
        if name is None:
            return None
        number = self._slides.number(name)
        found = self._known.read(number, name)
        if found is None:
            found = self._added(number, name)
            self._known.write(number, name, found)
        return found or None

    def _added(self, number: int, name: str) -> str:
        """Adds the context of a slide; returns its id, or an empty string if it cannot have one."""
        tiles = self._drawn(number, name)
        if len(tiles) < self.fewest:
            self._warn(
                _FEW,
                f"slide {name!r} has {len(tiles)} tiles with tissue, and its context needs {self.fewest}; tiles of it, "
                "and of other slides with so few, start from their own colours",
            )
            return ""
        try:
            return self._sent(tiles)
        except errors.RestainError as error:
            if error.code not in ("bank_full", "no_styles", "behind_gateway", "unanswered"):
                raise
            self._warn(
                _REFUSED,
                f"slide {name!r} has no context: {error}; tiles of it, and of other slides without one, start from "
                "their own colours",
            )
            return ""

    def _sent(self, tiles: list[NDArray[np.uint8]]) -> str:
        """Adds a context from the first tiles that the server, or a proxy before it, takes in one request."""
        while True:
            try:
                return self.client._add_context(tiles, self.model, self.mpp)
            except errors.TooLarge as error:
                half = tiles[: (len(tiles) + 1) // 2]
                if len(half) < self.fewest or len(half) == len(tiles) or not is_divisible(error):
                    raise
                tiles = half

    def _drawn(self, number: int, name: str) -> list[NDArray[np.uint8]]:
        """Draws tiles of a slide that have tissue, as many as a request may have."""
        seed = int.from_bytes(blake3(f"restain slide {self.seed} {name}".encode()).digest()[:8], "little")
        order = np.random.default_rng(seed).permutation(self._slides.places(number))
        drawn: dict[bytes, NDArray[np.uint8]] = {}
        room = self.client.limits.body_bytes - (64 << 10)
        for place in order[: _LOOKS * self.count].tolist():
            tile = self._tile(place)
            room -= tile.nbytes
            if len(drawn) == self.count or (drawn and room < 0):
                break
            if has_tissue(tile):
                drawn[tile.tobytes()] = tile
        return list(drawn.values())

    def _tile(self, place: int) -> NDArray[np.uint8]:
        sample = self._tiles[place]
        tile: NDArray[np.uint8] = as_tiles([sample if self._tile_of is None else self._tile_of(sample)])[0]
        return tile

    def _warn(self, reason: int, text: str) -> None:
        if self._known.is_news(reason):
            warnings.warn(text, RuntimeWarning, stacklevel=6)


def names_of(samples: Samples, slide_of: Any) -> list[str | None]:
    """Returns the name of each sample's slide; see `SlideContexts`. Raises `ValueError` if there are not as many.

    >>> names_of([{"slide": 3}, {"slide": None}], "slide"), names_of(["x", "y"], str.upper)
    (['3', None], ['X', 'Y'])
    """
    if _is_in_samples(slide_of):
        return _plain([_name_in(samples[place], slide_of) for place in range(len(samples))])
    names = _plain(slide_of)
    if len(names) != len(samples):
        raise ValueError(f"slide_of has {len(names)} names for {len(samples)} tiles, and must have one for each")
    return names


def _is_in_samples(slide_of: Any) -> bool:
    """Returns whether samples have the names, at a key or by a function."""
    return callable(slide_of) or isinstance(slide_of, str | int)


def _name_in(sample: Any, slide_of: Any) -> Name:
    if callable(slide_of):
        return slide_of(sample)
    if isinstance(slide_of, str) and not isinstance(sample, Mapping):
        return getattr(sample, slide_of)
    return sample[slide_of]


class _Slides:
    """The names of slides, and the indices of their tiles."""

    def __init__(self, names: list[str], number_of: NDArray[np.intp]) -> None:
        self._names = names
        self._numbers = {name: number for number, name in enumerate(names)}
        self._number_of = number_of
        self._order = np.argsort(number_of, kind="stable")
        self._ends = np.searchsorted(number_of[self._order], np.arange(len(names) + 1))

    @classmethod
    def of(cls, names: Sequence[str | None]) -> _Slides:
        """Groups tiles by the names of their slides.

        >>> slides = _Slides.of(["b", None, "a", "b"])
        >>> slides.places(slides.number("b")).tolist(), slides.name_at(1), slides.name_at(2)
        ([0, 3], None, 'a')
        """
        known = sorted({name for name in names if name is not None})
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(known)}
        return cls(known, np.array([numbers.get(name, -1) for name in names], np.intp))

    def __len__(self) -> int:
        return len(self._names)

    def number(self, name: str) -> int:
        if name not in self._numbers:
            raise ValueError(f"slide {name!r} has no tiles here, and there are tiles of {len(self)} others")
        return self._numbers[name]

    def name_at(self, place: int) -> str | None:
        number = self._number_of[place]
        return None if number < 0 else self._names[number]

    def places(self, number: int) -> NDArray[np.intp]:
        start, stop = self._ends[number], self._ends[number + 1]
        return self._order[start:stop]


class _Known:
    """The ids of the contexts that were added, in memory that forked workers share.

    It needs no lock: all write the same, and a row that is not yet complete does not have its checksum.

    >>> known = _Known(2)
    >>> known.write(1, "a", "0123")
    >>> known.read(1, "a"), known.read(0, "b"), known.is_news(_FEW), known.is_news(_FEW)
    ('0123', None, True, False)
    """

    _HEAD, _ID, _CHECK = 8, 32, 8

    def __init__(self, rows: int, content: bytes = b"") -> None:
        self._memory = mmap.mmap(-1, self._HEAD + max(rows, 1) * (self._ID + self._CHECK))
        self._memory[: len(content)] = content

    def content(self) -> bytes:
        return self._memory[:]

    def read(self, row: int, name: str) -> str | None:
        """Returns the id of a row; None if there is none yet."""
        start = self._start(row)
        held, check = self._memory[start : start + self._ID], self._memory[start + self._ID : self._start(row + 1)]
        return held.rstrip(b"\0").decode() if check == self._check(name, held) else None

    def write(self, row: int, name: str, written: str) -> None:
        held = written.encode().ljust(self._ID, b"\0")[: self._ID]
        self._memory[self._start(row) : self._start(row + 1)] = held + self._check(name, held)

    def forget(self, row: int) -> None:
        self._memory[self._start(row) : self._start(row + 1)] = bytes(self._ID + self._CHECK)

    def is_news(self, reason: int) -> bool:
        """Returns whether this reason comes for the first time."""
        is_known, self._memory[reason] = self._memory[reason], 1
        return not is_known

    def _start(self, row: int) -> int:
        return self._HEAD + row * (self._ID + self._CHECK)

    def _check(self, name: str, held: bytes) -> bytes:
        return blake3(name.encode() + b"\0" + held).digest()[: self._CHECK]


def _plain(names: Any) -> list[str | None]:
    """Converts names to strings.

    >>> _plain(np.array([3, 4])), _plain(["a", None, float("nan"), ""])
    (['3', '4'], ['a', None, None, None])
    """
    listed = names.tolist() if hasattr(names, "tolist") else list(names)
    each = [name.tolist() if hasattr(name, "tolist") else name for name in listed]
    return [None if name is None or name == "" or name != name else str(name) for name in each]
