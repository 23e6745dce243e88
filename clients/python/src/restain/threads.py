"""A pool of daemon threads.

The threads of `concurrent.futures` keep a program from ending until their work is done, which takes the whole timeout
of a call if the server does not answer.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .cancel import Cancellation, of_process, run_cancellable
from .errors import cancelled_error

T = TypeVar("T")
# Seconds that an ending program gives its threads to notice that their calls are cancelled.
_AT_EXIT = 0.5
_Work = tuple["Future[Any]", Callable[[], None]]


class Threads:
    """At most `count` threads, started when they are needed. After `close`, new work starts new ones."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._open()
        _POOLS.add(self)

    def _open(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._started: list[threading.Thread] = []

    def submit(self, work: Callable[[], T], cancelled: Cancellation | None = None) -> Future[T]:
        """Runs `work` in a thread. If it is `cancelled`, the future fails at once, whatever the thread waits for."""
        future: Future[T] = Future()
        stop = Cancellation() if cancelled is None else cancelled

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            with stop.cutting(lambda: _fail(future, cancelled_error())):
                if future.done():
                    return
                try:
                    result = run_cancellable(stop, work)
                except BaseException as error:
                    _fail(future, error)
                else:
                    with suppress(InvalidStateError):
                        future.set_result(result)

        if not self._is_own:
            self._open()
        with self._lock:
            self._queue.put((future, run))
            if not self._idle.acquire(blocking=False) and len(self._started) < self._count:
                name, work_of = f"{self._name}-{len(self._started) + 1}", (self._queue, self._idle)
                self._started.append(threading.Thread(target=_serve, args=work_of, name=name, daemon=True))
                self._started[-1].start()
        return future

    def close(self) -> list[threading.Thread]:
        """Ends the threads after their current work, without waiting for them, and returns them.

        Work that has not begun fails.
        """
        if not self._is_own:
            return []
        with self._lock:
            queue, started = self._queue, self._started
            self._renew()
        with suppress(Empty):
            while (work := queue.get_nowait()) is not None:
                _fail(work[0], cancelled_error())
        for _ in started:
            queue.put(None)
        return started

    @property
    def _is_own(self) -> bool:
        """Whether this is no copy in a forked process: its threads do not exist, and its lock may be held for ever."""
        return self._process == os.getpid()

    def __del__(self) -> None:
        self.close()


_POOLS: weakref.WeakSet[Threads] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    """Ends calls in threads, which would otherwise be stopped somewhere within them."""
    of_process().set()
    ending = [thread for pool in list(_POOLS) for thread in pool.close()]
    end = time.monotonic() + _AT_EXIT
    for thread in ending:
        thread.join(max(0.0, end - time.monotonic()))


def _serve(queue: SimpleQueue[_Work | None], idle: threading.Semaphore) -> None:
    while (work := queue.get()) is not None:
        work[1]()
        del work
        idle.release()


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)
