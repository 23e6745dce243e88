"""The share of a training process: its rank among the processes that train one model."""

from __future__ import annotations

import os
import sys
from multiprocessing.context import get_spawning_popen

import torch.distributed


def share(replica: int | None, replicas: int | None) -> tuple[int, int]:
    """Returns the number of this process among those that split the data, and how many they are.

    They are `replica` of `replicas` if given. Otherwise those of `torch.distributed` if it is initialised, or else the
    environment variables RANK and WORLD_SIZE, which launchers set. If accelerate distributes the batches of one process
    to all, that process makes all of them. Raises `RuntimeError` if WORLD_SIZE is set without RANK.
    """
    if replicas is not None:
        return replica or 0, replicas
    world = world_size()
    if world == 1 or _is_dispatched():
        return 0, 1
    if _is_initialized():
        return torch.distributed.get_rank(), world
    rank = os.environ.get("RANK")
    if rank is None:
        raise RuntimeError(
            f"WORLD_SIZE is {world} and RANK is not set, so the share of this process is unknown: "
            "initialise torch.distributed first, or pass `replica` and `replicas`"
        )
    return int(rank), world


def world_size() -> int:
    """Returns how many processes train together, as far as is known yet."""
    if _is_initialized():
        return torch.distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_spawning() -> bool:
    """Returns whether objects are pickled for a process that starts without this one's memory."""
    return get_spawning_popen() is not None


def _is_initialized() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _is_dispatched() -> bool:
    """Returns whether a `DataLoaderDispatcher` of accelerate is asking: it splits what one process gives it.

    A forked worker has the frames of the process that started it.
    """
    frame = sys._getframe(1) if "accelerate.data_loader" in sys.modules else None
    while frame is not None:
        if frame.f_globals.get("__name__") == "accelerate.data_loader":
            asking = type(frame.f_locals.get("self"))
            if any(kind.__name__ == "DataLoaderDispatcher" for kind in asking.__mro__):
                return True
        frame = frame.f_back
    return False
