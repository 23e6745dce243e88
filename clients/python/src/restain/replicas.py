"""The servers behind a client, and which of them are left out for a while.

A replica that cannot be reached or refuses all work is left out at once, and asked in the background whether it is
ready: first soon, then less and less often. It is back with its first yes. Addresses behind a name are looked up again
in the background too, so that no call waits for either.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from . import errors
from .transport import Body, Deadline, Transport

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before a replica that was left out is asked, and between later questions at most."""
LOOKUP_EVERY = 10.0
"""Seconds for which addresses count as known, as long as all of them answer."""
LOOKUP_SOONEST = 1.0
_ANSWER_WITHIN = 2.0


@dataclass(eq=False)
class Replica:
    address: str
    transport: Transport
    is_out: bool = False
    pause: float = FIRST_PAUSE
    ask_at: float = 0.0
    """When it may be asked whether it is back, on the monotonic clock."""


class Replicas:
    """Those at `urls`, or, of a single one `by_name`, those at all the addresses that the name in it has."""

    def __init__(self, urls: Sequence[str], connect: Callable[[str], Transport], by_name: bool = False) -> None:
        self._urls = urls
        self._connect = connect
        self._is_changing = by_name
        self._lock = threading.Lock()
        self._known: dict[str, Replica] = {}
        self._found_at: float | None = None
        self._is_looking = False
        self._turns = itertools.count()
        if not by_name:
            self._found(urls)

    @property
    def is_alone(self) -> bool:
        """Whether there is one server for good, so that there is no other to turn to."""
        return not self._is_changing and len(self._known) == 1

    def every(self) -> list[Replica]:
        """All, in the order of their addresses. Waits for the first look-up, and for no other."""
        if self._is_changing:
            self._look_up()
        return list(self._known.values())

    def usable(self) -> list[Replica]:
        """Those that are not left out. Those that are have their questions asked."""
        every, now = self.every(), time.monotonic()
        for replica in every:
            if replica.is_out and replica.ask_at <= now:
                self._ask(replica, now)
        return [replica for replica in every if not replica.is_out]

    def next(self) -> int:
        """A number that grows, for work that is at home nowhere."""
        return next(self._turns)

    def leave_out(self, replica: Replica) -> None:
        with self._lock:
            if not replica.is_out:
                replica.is_out, replica.pause = True, FIRST_PAUSE
                replica.ask_at = time.monotonic() + replica.pause
            # Perhaps it is gone, and another is there.
            if self._found_at is not None:
                self._found_at = min(self._found_at, time.monotonic() - LOOKUP_EVERY + LOOKUP_SOONEST)

    def close(self) -> None:
        """Closes the connections; a call after it opens new ones."""
        for replica in list(self._known.values()):
            replica.transport.close()

    def _ask(self, replica: Replica, now: float) -> None:
        with self._lock:
            if not replica.is_out or replica.ask_at > now:
                return
            # Nobody else asks meanwhile, however long the answer takes.
            replica.ask_at = now + _ANSWER_WITHIN + replica.pause
        _in_background(lambda: self._answered(replica, is_ready(replica.transport, _ANSWER_WITHIN)))

    def _answered(self, replica: Replica, is_ready: bool) -> None:
        with self._lock:
            replica.is_out = not is_ready
            replica.pause = min(2 * replica.pause, LONGEST_PAUSE)
            replica.ask_at = time.monotonic() + replica.pause

    def _look_up(self) -> None:
        with self._lock:
            if self._found_at is None:
                # A name without an address is an address where nobody answers: perhaps it has one later.
                self._found(_addresses(self._urls[0]) or self._urls)
                return
            if self._is_looking or time.monotonic() - self._found_at < LOOKUP_EVERY:
                return
            self._is_looking = True
        _in_background(self._look_up_again)

    def _look_up_again(self) -> None:
        addresses = _addresses(self._urls[0])
        with self._lock:
            self._is_looking = False
            # What was known is better than nothing: name servers have their bad minutes too.
            self._found(addresses or list(self._known))

    def _found(self, addresses: Sequence[str]) -> None:
        # Whoever still talks to one that is gone keeps its connections until the answer is there.
        known = self._known
        self._known = {at: known.get(at) or Replica(at, self._connect(at)) for at in sorted(set(addresses))}
        self._found_at = time.monotonic()


def _addresses(url: str) -> list[str]:
    """The URL once for each address that the name in it has now."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = {str(entry[4][0]) for entry in found}
    return [parts._replace(netloc=f"[{host}]:{port}" if ":" in host else f"{host}:{port}").geturl() for host in hosts]


def is_ready(transport: Transport, seconds: float) -> bool:
    """Whether it says so. One question, asked once."""
    try:
        transport.send("GET", "/health/ready", [], {}, Deadline.within(seconds), Body.read)
    except errors.RestainError:
        return False
    return True


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="restain-replicas", daemon=True).start()
