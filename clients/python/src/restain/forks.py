"""Clients in forked processes: a fork shares its parent's sockets, but has none of its threads."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Reopens(Protocol):
    """An object with state that belongs to one process."""

    def _open(self) -> None: ...


_KNOWN: weakref.WeakSet[Reopens] = weakref.WeakSet()


def open_in_forks(client: Reopens) -> None:
    """Calls `client._open` in every process that is forked from this one while the client exists."""
    _KNOWN.add(client)


def _after_fork() -> None:
    for client in list(_KNOWN):
        client._open()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
