"""Cancellation of calls that wait for a server, so that Ctrl-C, `return` and `close` take effect at once.

A thread that waits in `recv` reads no flag. Cancelling a call therefore also shuts down the sockets that it uses: the
waiting thread gets an error at once, and the server sees the caller leave.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds between two looks of a worker at whether its DataLoader is leaving.
_LOOK_EVERY = 0.1


class Cancellation:
    """Whether some work is cancelled: a call, all calls of a client, or all calls of this process.

    Cancelling it cancels everything that was created with it as a parent.
    """

    def __init__(self, *parents: Cancellation) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._cuts: set[Callable[[], None]] = set()
        self._children: weakref.WeakSet[Cancellation] = weakref.WeakSet()
        for parent in parents:
            parent._adopt(self)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits until it is cancelled, for at most `seconds`. Returns whether it is."""
        return self._event.wait(seconds)

    def set(self) -> None:
        """Cancels the work."""
        with self._lock:
            self._event.set()
            cuts, children = list(self._cuts), list(self._children)
        for cut in cuts:
            cut()
        for child in children:
            child.set()

    @contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """Calls `cut`, from any thread, if the work is cancelled within the block or has been before."""
        with self._lock:
            self._cuts.add(cut)
            is_late = self._event.is_set()
        try:
            if is_late:
                cut()
            yield
        finally:
            with self._lock:
                self._cuts.discard(cut)

    def _adopt(self, child: Cancellation) -> None:
        with self._lock:
            self._children.add(child)
        if self.is_set():
            child.set()


class Line:
    """The socket of one request, to be shut down by another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False
        self.is_sent = False
        """Whether the whole request was handed to the socket."""

    def hold(self, used: socket.socket) -> None:
        """Remembers the socket, as a duplicate: TLS and `Connection: close` take the original away from its owner."""
        with self._lock:
            self._drop()
            with suppress(OSError, ValueError):
                self._socket = socket.fromfd(used.fileno(), used.family, used.type)
            if self._is_cut:
                self._shut_down()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._shut_down()

    def release(self) -> None:
        with self._lock:
            self._drop()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _OfThread(threading.local):
    cancelled: Cancellation | None = None


_of_thread = _OfThread()
_process = Cancellation()
_watching = -1


def of_process() -> Cancellation:
    """Returns the parent of all calls of this process."""
    return _process


def of_call(*parents: Cancellation) -> Cancellation:
    """Returns the cancellation of a call that begins in this thread."""
    _watch()
    running = _of_thread.cancelled
    return Cancellation(*parents, *(() if running is None else (running,)))


def run_cancellable(cancelled: Cancellation, work: Callable[[], T]) -> T:
    """Runs `work` in this thread; its calls are cancelled with `cancelled`."""
    before, _of_thread.cancelled = _of_thread.cancelled, cancelled
    try:
        return work()
    finally:
        _of_thread.cancelled = before


def _watch() -> None:
    """In a worker of a DataLoader: cancels the worker's calls once the loader wants it to end.

    The loader joins its workers for five seconds each before it kills them, and a worker that waits for a server does
    not look at the loader's event.
    """
    global _watching
    if _watching == os.getpid():
        return
    _watching = os.getpid()
    workers = sys.modules.get("torch.utils.data._utils.worker")
    if workers is None or getattr(workers, "_worker_info", None) is None:
        return
    leaving = _local_of("_worker_loop", "done_event")
    if leaving is not None:
        threading.Thread(target=_look, args=(leaving,), name="restain-leaving", daemon=True).start()


def _look(leaving: Any) -> None:
    while True:
        # Not `leaving.wait`: if this process is killed within it, the loader's `set` waits for it for ever.
        if leaving.is_set():
            _process.set()
            return
        time.sleep(_LOOK_EVERY)


def _local_of(function: str, name: str) -> Any:
    """Returns a local variable of a function that the main thread is in; None if it is not in it.

    torch passes the event to its worker's loop alone, and offers no other way to it.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return None if frame is None else frame.f_locals.get(name)


def _after_fork() -> None:
    global _process, _watching
    _process, _watching = Cancellation(), -1
    _of_thread.cancelled = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
