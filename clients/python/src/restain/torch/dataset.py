"""Prefetching of batches: several requests in flight in every worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..client import Client
from ..options import AugmentOptions
from .batches import Batch, RestainCollate, Then
from .seeds import EpochSeed

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Samples(Protocol):
    """A map-style dataset of `torch.utils.data`, with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class RestainDataset(IterableDataset[Any]):
    """Batches of originals and variants of the samples of `dataset`, in the layout of `RestainCollate`.

    Use it as `DataLoader(restained, batch_size=None, num_workers=...)`: it makes the batches of `batch_size` samples
    itself, so that a worker can request the next `in_flight` batches in advance. The order of the batches and their
    bytes depend on the seed and the epoch, and not on the number of workers. With a `seed`, call `set_epoch` before
    each epoch. With several training processes, process `replica` of `replicas` gets its share, with equally many
    batches each.
    """

    def __init__(
        self,
        dataset: Samples,
        client: Client,
        *,
        batch_size: int = 32,
        variants: int = 1,
        originals: bool = True,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int | None = None,
        in_flight: int = 4,
        replica: int = 0,
        replicas: int = 1,
        image: int | str = 0,
        then: Then | None = None,
        **options: Unpack[AugmentOptions],
    ) -> None:
        for name, value in {"batch_size": batch_size, "in_flight": in_flight, "replicas": replicas}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, and must be at least 1")
        if not 0 <= replica < replicas:
            raise ValueError(f"replica is {replica}, and must be from 0 to {replicas - 1}")
        if replicas > 1 and seed is None and shuffle:
            raise ValueError("replicas shuffle the samples in one common order, which needs a seed: give them the same")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.in_flight = in_flight
        self.replica = replica
        self.replicas = replicas
        self._collate = RestainCollate(
            client, variants=variants, originals=originals, image=image, then=then, **options
        )
        self._seed = EpochSeed(seed)

    def set_epoch(self, epoch: int) -> None:
        self._seed.set_epoch(epoch)

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        samples = len(self.dataset) // self.replicas if self.replicas > 1 else len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        seed = self._seed()
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = self._order(seed)
        waiting: deque[tuple[Batch, Future[None]]] = deque()
        threads = ThreadPoolExecutor(self.in_flight, thread_name_prefix="restain-batch")
        try:
            for number in range(first, len(self), step):
                if len(waiting) == self.in_flight:
                    yield _finished(*waiting.popleft())
                places = order[number * self.batch_size : (number + 1) * self.batch_size]
                batch = self._collate.begin([self.dataset[place] for place in places])
                waiting.append((batch, threads.submit(batch.ask, seed)))
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            # If the loop ends within an epoch, pending requests are cancelled.
            threads.shutdown(wait=True, cancel_futures=True)

    def _order(self, seed: int) -> list[int]:
        """Returns the indices of this replica's samples, in the order of the epoch."""
        count = len(self.dataset)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        each = count // self.replicas
        mine: list[int] = order[self.replica :: self.replicas][: each if self.replicas > 1 else count].tolist()
        return mine


def _finished(batch: Batch, asking: Future[None]) -> Any:
    asking.result()
    return batch.finish()
