"""The replicas of a client, and their health.

A replica that is unreachable or rejects all work is excluded at once. The client probes it in the background, with
exponential back-off, and uses it again after the first successful probe. It also resolves names again in the
background, so that no call waits for either.
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
from .transport import Deadline, Transport, read_all

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before the first probe of an excluded replica, and at most between later probes."""
LOOKUP_EVERY = 10.0
"""Seconds after which a name is resolved again, as long as all its addresses answer."""
LOOKUP_SOONEST = 1.0
_ANSWER_WITHIN = 2.0


@dataclass(eq=False)
class Replica:
    """One server, its connections and its health."""

    address: str
    transport: Transport
    is_out: bool = False
    pause: float = FIRST_PAUSE
    ask_at: float = 0.0
    """The earliest time of the next probe, on the monotonic clock."""


class Replicas:
    """The servers at `urls`; with `by_name`, at all addresses of the name in the single URL."""

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
        """Whether there is one fixed server, without an alternative."""
        return not self._is_changing and len(self._known) == 1

    def every(self) -> list[Replica]:
        """Returns all replicas, ordered by address. Waits only for the first name resolution."""
        if self._is_changing:
            self._look_up()
        return list(self._known.values())

    def usable(self) -> list[Replica]:
        """Returns the replicas that are not excluded, and starts probes of the others that are due."""
        every, now = self.every(), time.monotonic()
        for replica in every:
            if replica.is_out and replica.ask_at <= now:
                self._ask(replica, now)
        return [replica for replica in every if not replica.is_out]

    def next(self) -> int:
        """Returns an increasing number, for round robin."""
        return next(self._turns)

    def leave_out(self, replica: Replica) -> None:
        """Excludes a replica until a probe succeeds."""
        with self._lock:
            if not replica.is_out:
                replica.is_out, replica.pause = True, FIRST_PAUSE
                replica.ask_at = time.monotonic() + replica.pause
            # Another address may have replaced it.
            if self._found_at is not None:
                self._found_at = min(self._found_at, time.monotonic() - LOOKUP_EVERY + LOOKUP_SOONEST)

    def close(self) -> None:
        """Closes the connections. A later call opens new ones."""
        for replica in list(self._known.values()):
            replica.transport.close()

    def _ask(self, replica: Replica, now: float) -> None:
        with self._lock:
            if not replica.is_out or replica.ask_at > now:
                return
            # No second probe starts while this one runs.
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
                # A name without an address counts as one unreachable replica; it may have an address later.
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
            # Keep the known addresses if the resolution fails.
            self._found(addresses or list(self._known))

    def _found(self, addresses: Sequence[str]) -> None:
        # Running calls to a removed replica keep its connections until they end.
        known = self._known
        self._known = {at: known.get(at) or Replica(at, self._connect(at)) for at in sorted(set(addresses))}
        self._found_at = time.monotonic()


def _addresses(url: str) -> list[str]:
    """Resolves the name in a URL, and returns one URL for each of its addresses."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = {str(entry[4][0]) for entry in found}
    return [parts._replace(netloc=f"[{host}]:{port}" if ":" in host else f"{host}:{port}").geturl() for host in hosts]


def is_ready(transport: Transport, seconds: float) -> bool:
    """Sends one readiness probe, without retries."""
    try:
        transport.send("GET", "/health/ready", [], {}, Deadline.within(seconds), read_all)
    except errors.RestainError:
        return False
    return True


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="restain-replicas", daemon=True).start()
