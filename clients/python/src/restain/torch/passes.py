"""One pass over the batches of a `RestainDataset`: requests in advance, and the position for a checkpoint."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..cancel import Cancellation
from ..threads import Threads
from .batches import Batch
from .epochs import Pass


@dataclass
class Position:
    """How far a pass has come in one process, which makes every `workers`-th batch and has made `own` of them."""

    running: Pass
    order: torch.Tensor
    """int64 [m]: indices of this process's share of the samples."""
    worker: int = 0
    workers: int = 1
    own: int = 0

    def numbers(self, batches: int) -> range:
        """Returns the numbers of the batches that are left, of `batches`."""
        return range(self.running.skipped + self.worker + self.own * self.workers, batches, self.workers)

    @property
    def consumed(self) -> int:
        """Batches of the pass that the training loop has had, if there are no workers."""
        return self.running.skipped + self.own


class Batches(Iterator[Any]):
    """Makes the batches of a pass, with `ahead` requests in flight.

    `begin` returns where the pass starts, `count` its number of batches, and `make` the batch with a number, without
    its variants.
    """

    def __init__(
        self,
        begin: Callable[[], Position],
        count: Callable[[], int],
        make: Callable[[Position, int], Batch],
        ahead: int,
    ) -> None:
        self._begin, self._count, self._make, self._ahead = begin, count, make, ahead
        self._position: Position | None = None
        self._numbers: Iterator[int] = iter(())
        self._waiting: deque[tuple[Batch, Future[None]]] = deque()
        self._cancelled = Cancellation()
        self._threads = Threads(ahead, "restain-batch")
        self._process = os.getpid()

    def begin(self) -> Position:
        """Begins the pass, if it has not begun."""
        if self._position is None:
            self._position = self._begin()
            self._numbers = iter(self._position.numbers(self._count()))
        return self._position

    def __next__(self) -> Any:
        position = self.begin()
        try:
            while len(self._waiting) < self._ahead and (number := next(self._numbers, None)) is not None:
                batch = self._make(position, number)
                asking = self._threads.submit(partial(batch.ask, position.running.seed), self._cancelled)
                self._waiting.append((batch, asking))
            if not self._waiting:
                raise StopIteration
            batch, asking = self._waiting.popleft()
            batch.settle(asking.result, position.running.seed)
            made = batch.finish()
        except BaseException:
            self.close()
            raise
        position.own += 1
        return made

    def close(self) -> None:
        """Ends the pass: cancels the requests, without waiting for them."""
        self._numbers = iter(())
        self._waiting.clear()
        self._cancelled.set()
        self._threads.close()

    def __del__(self) -> None:
        # As with its threads, a copy in a forked process has nothing to end.
        if getattr(self, "_process", -1) == os.getpid():
            self.close()
