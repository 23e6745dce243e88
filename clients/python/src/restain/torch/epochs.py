"""Counting of epochs: every pass over the data has its own seed, whether or not the training loop says so.

A `Dataset` or a `collate_fn` in a worker process is not notified when a new epoch begins, and many training loops call
no `set_epoch`. But a `DataLoader` makes a new iterator of an iterable dataset, or a new fetcher of a map-style one, for
each pass and in each worker. A pass is therefore identified by the loader's base seed, which all its workers know, and
by how many passes the worker has seen. Shared memory assigns numbers to passes, the same in all workers of a loader,
and outlives them.
"""

from __future__ import annotations

import multiprocessing
import operator
import os
import sys
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from ..keys import epoch_seed
from .ranks import is_spawning

# The shared words. The first ones: the epoch that `set_epoch` has set, or -1; the number of the next pass; where to
# resume: epoch (or -1), batches to skip, seed (or -1); and of the last pass: its epoch (or -1), its seed, and whether
# workers make it.
_TOLD, _NEXT, _AT, _AT_BATCH, _AT_SEED, _LAST, _LAST_SEED, _LAST_IN_WORKERS, _HEAD = range(9)
# Then one row for each pass that workers are joining: base seed (or -1), count in the worker, workers that have joined,
# and the pass's epoch, seed and batches to skip.
_BASE, _COUNT, _JOINED, _EPOCH, _SEED, _SKIPPED, _WIDTH = range(7)
_ROWS = 16


class Pass(NamedTuple):
    """One pass over the data."""

    epoch: int
    seed: int
    skipped: int = 0
    """Batches that an earlier run has consumed."""


class Epochs:
    """The passes of one dataset, collate function or transform, with a seed for each.

    With a `seed`, pass n has the seed of epoch n, from 0, unless `set_epoch` says which epoch it is. Without one,
    torch's random generator decides.

    >>> epochs = Epochs(7)
    >>> [epochs.begin().epoch for _ in range(3)]
    [0, 1, 2]
    >>> is_lost = epochs.set_epoch(5)
    >>> [epochs.begin().epoch for _ in range(2)]
    [5, 5]
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = None if seed is None else operator.index(seed)
        words = torch.full((_HEAD + _ROWS * _WIDTH,), -1, dtype=torch.int64)
        words[_NEXT] = 0
        self._open(words)

    def _open(self, words: torch.Tensor) -> None:
        self._words = words.share_memory_()  # type: ignore[no-untyped-call]
        # A lock that forked processes share; `__getstate__` makes one for others.
        is_forking = "fork" in multiprocessing.get_all_start_methods()
        self._lock: Any = multiprocessing.get_context("fork" if is_forking else "spawn").Lock()
        self._is_spawnable = not is_forking
        self._of_fetcher: weakref.WeakKeyDictionary[Any, Pass] = weakref.WeakKeyDictionary()
        self._counted = (0, 0)

    def __getstate__(self) -> dict[str, Any]:
        if not is_spawning():
            # A copy, which counts on its own.
            return {"seed": self.seed, "_words": self._words.clone()}
        if not self._is_spawnable:
            self._lock, self._is_spawnable = multiprocessing.get_context("spawn").Lock(), True
        return {"seed": self.seed, "_words": self._words, "_lock": self._lock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]
        self._open(state["_words"])
        if "_lock" in state:
            self._lock, self._is_spawnable = state["_lock"], True

    def set_epoch(self, epoch: int) -> bool:
        """Says which epoch the next passes are, until the next call. Returns whether a resumed position is lost by it.

        Raises `ValueError` for a negative epoch.
        """
        epoch = _epoch(epoch)
        with self._lock:
            head = self._head
            is_lost = head[_AT] not in (-1, epoch) and head[_AT_BATCH] > 0
            head[_TOLD], head[_NEXT] = epoch, epoch + 1
            for place in (_AT, _LAST):
                if head[place] != epoch:
                    head[place] = -1
            return bool(is_lost)

    def resume(self, epoch: int, batches: int = 0, seed: int | None = None) -> None:
        """Says that the next pass is `epoch` without its first `batches`, and that later passes count on from there."""
        epoch = _epoch(epoch)
        with self._lock:
            head = self._head
            head[_TOLD], head[_NEXT] = -1, epoch
            head[_AT], head[_AT_BATCH], head[_AT_SEED] = epoch, batches, -1 if seed is None else seed

    def count_on(self, running: Pass) -> None:
        """Takes note of a pass that this worker resumes on its own, so that later passes count on from there."""
        self._count()
        with self._lock:
            self._head[_NEXT] = running.epoch + 1
            self._note(running, in_workers=True)

    def seed_of(self, epoch: int, drawn: int) -> int:
        """Returns the seed of an epoch: `drawn` if it was not a function of the epoch."""
        return drawn if self.seed is None else epoch_seed(self.seed, epoch)

    def last(self) -> tuple[Pass, bool] | None:
        """Returns the pass that began last, and whether workers make it; None before the first one, or to resume."""
        with self._lock:
            head = self._head
            if head[_AT] != -1 or head[_LAST] == -1:
                return None
            return Pass(int(head[_LAST]), int(head[_LAST_SEED])), bool(head[_LAST_IN_WORKERS])

    def upcoming(self) -> Pass:
        """Returns the next pass: its seed is -1 if torch's random generator will decide."""
        with self._lock:
            head = self._head
            if head[_AT] != -1:
                return Pass(int(head[_AT]), int(head[_AT_SEED]), int(head[_AT_BATCH]))
            return Pass(int(head[_NEXT] if head[_TOLD] == -1 else head[_TOLD]), -1)

    def begin(self) -> Pass:
        """Begins a pass: a new one, or in a worker the one that another worker of its loader has begun."""
        worker = get_worker_info()
        if worker is None:
            drawn = int(torch.randint(1 << 53, ())) if self.seed is None else -1
            with self._lock:
                return self._begin(drawn, in_workers=False)
        base, count = worker.seed - worker.id, self._count()
        with self._lock:
            rows = self._rows
            known = np.flatnonzero((rows[:, _BASE] == base) & (rows[:, _COUNT] == count))
            if known.size:
                row = rows[known[0]]
                begun = Pass(int(row[_EPOCH]), int(row[_SEED]), int(row[_SKIPPED]))
            else:
                begun = self._begin(epoch_seed(base, count), in_workers=True)
                rows[1:] = rows[:-1].copy()
                row = rows[0]
                row[:] = base, count, 0, *begun
            row[_JOINED] += 1
            if row[_JOINED] == worker.num_workers:
                # Later workers with the same base seed are another pass: someone has set torch's seed again.
                row[_BASE] = -1
            return begun

    def current(self) -> int:
        """Returns the epoch that `set_epoch` has set, or of the pass that began last; else that of the next pass."""
        last = self.last()
        return self.upcoming().epoch if last is None or self._head[_TOLD] != -1 else last[0].epoch

    def seed_here(self) -> int:
        """Returns the seed for a call within a `DataLoader`'s pass, or outside of one for the current epoch.

        Without a seed of its own, every call draws one.
        """
        if self.seed is None:
            return int(torch.randint(1 << 53, ()))
        fetcher = _fetcher()
        if fetcher is None:
            return epoch_seed(self.seed, self.current())
        if fetcher not in self._of_fetcher:
            self._of_fetcher[fetcher] = self.begin()
        return self._of_fetcher[fetcher].seed

    @property
    def _head(self) -> NDArray[np.int64]:
        words: NDArray[np.int64] = self._words.numpy()
        return words[:_HEAD]

    @property
    def _rows(self) -> NDArray[np.int64]:
        words: NDArray[np.int64] = self._words.numpy()
        return words[_HEAD:].reshape(_ROWS, _WIDTH)

    def _begin(self, drawn: int, in_workers: bool) -> Pass:
        head, skipped, seed = self._head, 0, drawn
        epoch = int(head[_NEXT] if head[_TOLD] == -1 else head[_TOLD])
        if head[_AT] != -1:
            epoch, skipped = int(head[_AT]), int(head[_AT_BATCH])
            seed = drawn if head[_AT_SEED] == -1 else int(head[_AT_SEED])
        head[_AT], head[_NEXT] = -1, epoch + 1
        begun = Pass(epoch, self.seed_of(epoch, seed), skipped)
        self._note(begun, in_workers)
        return begun

    def _note(self, running: Pass, in_workers: bool) -> None:
        head = self._head
        head[_LAST], head[_LAST_SEED], head[_LAST_IN_WORKERS] = running.epoch, running.seed, in_workers

    def _count(self) -> int:
        """Returns how many passes this process has begun before."""
        process, count = self._counted
        count = count if process == os.getpid() else 0
        self._counted = os.getpid(), count + 1
        return count


def _epoch(epoch: int) -> int:
    epoch = operator.index(epoch)
    if epoch < 0:
        raise ValueError(f"epoch is {epoch}, and must be at least 0")
    return epoch


def _fetcher() -> Any:
    """Returns the `DataLoader`'s object that is calling; it is a new one in every pass. None outside of a loader.

    torch passes nothing to a `collate_fn` or a dataset that differs between the passes of persistent workers.
    """
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "fetch" and frame.f_globals.get("__name__") == "torch.utils.data._utils.fetch":
            return frame.f_locals["self"]
        frame = frame.f_back  # type: ignore[assignment]
    return None
