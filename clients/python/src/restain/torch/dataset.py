"""Batches ahead of the training loop: several requests under way in every worker."""

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
    """A dataset as `torch.utils.data.Dataset` has it, of which one knows how many samples there are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class RestainDataset(IterableDataset[Any]):
    """The samples of `dataset` in batches of originals and variants, laid out as `RestainCollate` says.

    For `DataLoader(restained, batch_size=None, num_workers=...)`: the batches are made here, of `batch_size` samples,
    so that a worker asks for the next ones while it waits: `in_flight` of them. The order of the batches and every byte
    of them depend on the seed and the epoch, and not on the number of workers. With a `seed`, call `set_epoch` before
    each epoch. Of several training processes, `replica` of `replicas` takes its share, equally many batches each.
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
            raise ValueError(
                "replicas share one order of the samples, for which they need one seed: give them the same"
            )
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
        """Batches of an epoch."""
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
            # The loop may have been left in the middle of an epoch: what has not begun is not begun.
            threads.shutdown(wait=True, cancel_futures=True)

    def _order(self, seed: int) -> list[int]:
        """The samples of this replica, in the epoch's order."""
        count = len(self.dataset)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        each = count // self.replicas
        mine: list[int] = order[self.replica :: self.replicas][: each if self.replicas > 1 else count].tolist()
        return mine


def _finished(batch: Batch, asking: Future[None]) -> Any:
    asking.result()
    return batch.finish()
