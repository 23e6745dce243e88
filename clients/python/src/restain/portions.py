"""Splitting one call into requests, to several servers or to one.

A portion is the tiles of one request. Each tile goes to the replica that it belongs to. If that replica is unavailable,
its tiles are redistributed among the others, within the same call. Tiles that must stay together stay in one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import call as calls
from . import errors, rendezvous
from .call import Ask, Call
from .mixed import Pixels
from .replicas import Replica, Replicas
from .retry import is_unanswered, last_error
from .threads import Threads
from .tiles import Distinct, keys_of

T = TypeVar("T")
Places = slice | NDArray[np.intp]
Bounds = Callable[[Pixels], list[tuple[int, int]]]
"""Returns where the portions of tiles begin and end."""


@dataclass(frozen=True)
class Portion:
    """Some tiles of a call, and the replica that they are sent to."""

    places: Places
    """Indices of the tiles in the call. A slice if they are adjacent, which avoids copies."""
    keys: list[bytes] | None
    """None if they are not computed yet."""
    replica: Replica
    headers: Mapping[str, str]
    unanswered: int = 0
    """How often its tiles were sent to a server that broke the connection in place of an answer."""

    def __len__(self) -> int:
        places = self.places
        return places.stop - places.start if isinstance(places, slice) else len(places)

    def tiles(self, pixels: Pixels, ask: Ask) -> Distinct:
        """Selects the portion's tiles from the call's `pixels`."""
        rows = None if isinstance(self.places, slice) else self.places
        pixels = pixels[self.places] if isinstance(self.places, slice) else pixels
        slides = [slide for slide in self.slides(ask) if slide is not None] or None
        if not ask.by_key:
            return Distinct(pixels, rows, [b""] * len(self), None, slides)
        keys = keys_of(pixels) if self.keys is None else self.keys
        return Distinct(pixels, rows, keys, None, slides) if ask.is_whole else Distinct.of(pixels, rows, keys, slides)

    def indices(self) -> NDArray[np.intp]:
        """Returns the indices of its tiles in the call."""
        return np.arange(self.places.start, self.places.stop) if isinstance(self.places, slice) else self.places

    def slides(self, ask: Ask) -> list[str | None]:
        """Returns the slides of its tiles; an empty list if the call has none for each tile."""
        return [] if ask.slides is None else [ask.slides[place] for place in self.indices()]

    def by_slide(self, pixels: Pixels, ask: Ask) -> list[Portion]:
        """Splits it into the tiles that have a slide, and those that have none."""
        slides = self.slides(ask)
        if None not in slides or not any(slides):
            return [self]
        keys = self.keys
        if keys is None and ask.by_key:
            keys = keys_of(pixels[self.places])
        has_slide = np.array([slide is not None for slide in slides])
        parts = []
        for mine in (np.flatnonzero(has_slide), np.flatnonzero(~has_slide)):
            own = None if keys is None else [keys[at] for at in mine]
            parts.append(replace(self, places=self.indices()[mine], keys=own))
        return parts

    def room(self, made: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns memory for its rows of `made`: a view of it if they are adjacent, else a new array."""
        if isinstance(self.places, slice):
            return made[self.places]
        return np.empty((len(self), *made.shape[1:]), made.dtype)

    def cut(self, start: int, stop: int) -> Portion:
        """Returns the part from `start` to `stop`."""
        places: Places
        if isinstance(self.places, slice):
            places = slice(self.places.start + start, self.places.start + stop)
        else:
            places = self.places[start:stop]
        return replace(self, places=places, keys=None if self.keys is None else self.keys[start:stop])


@dataclass(frozen=True)
class Split:
    """How tiles are assigned: to one of `replicas` by rendezvous hashing, or by shard to the gateway before them."""

    replicas: Replicas
    shards: int | None
    is_whole: bool
    by_key: bool

    def all_of(self, pixels: Pixels, bounds: Bounds) -> list[Portion]:
        """Splits all tiles of a call into portions within `bounds`."""
        every = slice(0, len(pixels))
        is_spread = self.shards is not None or not self.replicas.is_alone
        if not (is_spread and self.by_key):
            replicas, portions = self._here(), []
            for start, stop in bounds(pixels):
                replica = replicas[self.replicas.next() % len(replicas)]
                portions.append(Portion(slice(start, stop), None, replica, {}))
            return portions
        portions = self.of(every, keys_of(pixels))
        return [portion.cut(*ends) for portion in portions for ends in bounds(pixels[portion.places])]

    def of(self, places: Places, keys: list[bytes] | None) -> list[Portion]:
        """Assigns tiles to the replicas that they belong to now."""
        replicas = self._here()
        if keys is None:
            return [Portion(places, None, replicas[self.replicas.next() % len(replicas)], {})]
        # Tiles that stay together go to the replica of the first.
        asked = keys[:1] if self.is_whole else keys
        if self.shards is not None:
            groups = rendezvous.shards(asked, self.shards)
            homes = {int(n): (replicas[0], {rendezvous.SHARD_HEADER: str(n)}) for n in np.unique(groups)}
        else:
            groups = rendezvous.owners(asked, [replica.address for replica in replicas])
            homes = {int(n): (replicas[n], {}) for n in np.unique(groups)}
        if len(homes) == 1:
            return [Portion(places, keys, *home) for home in homes.values()]
        indices = np.arange(places.start, places.stop) if isinstance(places, slice) else places
        portions = []
        for n, home in homes.items():
            mine = np.flatnonzero(groups == n)
            portions.append(Portion(indices[mine], [keys[at] for at in mine], *home))
        return portions

    def _here(self) -> list[Replica]:
        """Returns the usable replicas, or all if none is usable."""
        return self.replicas.usable() or self.replicas.every()


@dataclass(frozen=True)
class Delivery(Generic[T]):
    """Sends portions: `one` sends a single request, given its call and its portion."""

    call: Call
    split: Split
    one: Callable[[Call, Portion], T]
    instead: Callable[[Portion, errors.ServerError], T | None]
    """Returns a substitute for a failed response, or None to raise the error."""
    smaller: Callable[[int], None]
    """Called with the number of tiles that the server accepts, if that is below the limit."""

    def all_of(self, portions: list[Portion], threads: Threads) -> list[tuple[Portion, T]]:
        """Sends all portions concurrently, or a single one in the caller's thread."""
        if len(portions) == 1:
            return self._brought(portions[0])
        cancelled = self.call.cancelled
        futures = [threads.submit(partial(self._brought, portion), cancelled) for portion in portions]
        try:
            # In the order of their ends: a failure does not wait for the portions before it.
            for future in as_completed(futures):
                future.result()
            return [part for future in futures for part in future.result()]
        except BaseException:
            # Neither Ctrl-C nor the failure of one portion waits for the others.
            cancelled.set()
            raise

    def _brought(self, portion: Portion) -> list[tuple[Portion, T]]:
        """Sends a portion; splits it if it is too large, and reassigns it if its replica is unavailable."""
        done: list[tuple[Portion, T]] = []
        waiting, waits = [portion], 0
        while waiting:
            portion = waiting.pop()
            call = replace(self.call, transport=portion.replica.transport, headers=portion.headers)
            try:
                done.append((portion, self.one(call, portion)))
            except errors.TooLarge as error:
                if len(portion) == 1 or self.split.is_whole or not calls.is_divisible(error):
                    raise
                middle = (len(portion) + 1) // 2
                self.smaller(middle)
                waiting += [portion.cut(0, middle), portion.cut(middle, len(portion))]
            except errors.ServerError as error:
                is_moving, unanswered = self._left_out(portion, error), portion.unanswered + is_unanswered(error)
                last = last_error(error, unanswered) if is_moving else None
                if last is not None:
                    is_moving = False
                if is_moving and not self.split.replicas.usable():
                    # No replica is usable: wait, as for a single server.
                    waits += 1
                    is_moving = self.call.waited(error, waits)
                if is_moving and self.call.deadline.left() > 0:
                    self.call.counters.add(retries=1)
                    parts = self.split.of(portion.places, portion.keys)
                    waiting += [replace(part, unanswered=unanswered) for part in parts]
                    continue
                stand_in = self.instead(portion, last or error)
                if stand_in is None:
                    raise last or error from None
                done.append((portion, stand_in))
        return done

    def _left_out(self, portion: Portion, error: errors.ServerError) -> bool:
        """Leaves out the replica of a portion, if it is away and others may be there."""
        is_away = isinstance(error, errors.Unavailable) and not self.call.is_alone
        if is_away:
            self.split.replicas.leave_out(portion.replica)
        return is_away and not self.call.cancelled.is_set()
