"""A pool of daemon threads.

The threads of `concurrent.futures` keep a program from ending until their work is done, which takes the whole timeout
of a call if the server does not answer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .cancel import Cancellation, run_cancellable
from .errors import cancelled_error

T = TypeVar("T")
_Work = tuple["Future[Any]", Callable[[], None]]


class Threads:
    """At most `count` threads, started when they are needed. After `close`, new work starts new ones."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name, self._process = count, name, os.getpid()
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._started = 0

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

        with self._lock:
            self._queue.put((future, run))
            if not self._idle.acquire(blocking=False) and self._started < self._count:
                self._started += 1
                name, work_of = f"{self._name}-{self._started}", (self._queue, self._idle)
                threading.Thread(target=_serve, args=work_of, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Ends the threads after their current work, without waiting for them. Work that has not begun fails."""
        with self._lock:
            queue, started = self._queue, self._started
            self._queue, self._idle, self._started = SimpleQueue(), threading.Semaphore(0), 0
        with suppress(Empty):
            while (work := queue.get_nowait()) is not None:
                _fail(work[0], cancelled_error())
        for _ in range(started):
            queue.put(None)

    def __del__(self) -> None:
        # A forked process has a copy, whose threads do not exist and whose lock may be held for ever.
        if self._process == os.getpid():
            self.close()


def _serve(queue: SimpleQueue[_Work | None], idle: threading.Semaphore) -> None:
    while (work := queue.get()) is not None:
        work[1]()
        del work
        idle.release()


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)
