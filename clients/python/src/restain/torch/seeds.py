"""The seed of an epoch, the same in every worker."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info

from ..keys import epoch_seed


class EpochSeed:
    """f(seed, epoch); without a seed, one that torch's own generator gives anew for every epoch.

    The epoch lies in memory that worker processes share, so that `set_epoch` reaches workers that persist.
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
            # What a DataLoader gives to all workers of an epoch, drawn from the generator of its process.
            return epoch_seed(worker.seed - worker.id, 0)
        return int(torch.randint(1 << 53, ()))
