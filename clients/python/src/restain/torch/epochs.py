"""The seed of an epoch, the same in every worker."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info

from ..keys import epoch_seed


class EpochSeed:
    """A function of seed and epoch; without a seed, a number from torch's random generator for every epoch.

    The epoch is in shared memory, so that `set_epoch` also reaches persistent workers.

    >>> seed = EpochSeed(7)
    >>> first = seed()
    >>> seed.set_epoch(1)
    >>> seed() == first
    False
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __call__(self) -> int:
        if self.seed is not None:
            return epoch_seed(self.seed, int(self._epoch))
        worker = get_worker_info()
        if worker is not None:
            # The base seed that a DataLoader draws for all workers of an epoch, from the generator of its process.
            return epoch_seed(worker.seed - worker.id, 0)
        return int(torch.randint(1 << 53, ()))
