"""Batches for a training loop: several requests in flight in every worker, and passes that count themselves."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..client import Client
from ..contexts import Samples, SlideContexts, names_of
from ..options import AugmentOptions
from . import ranks
from .batches import Batch, RestainCollate, Then, tile_of
from .epochs import Epochs, Pass
from .passes import Batches, Position

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RestainDataset(IterableDataset[Any]):
    """Batches of originals and variants of the samples of `dataset`, in the layout of `RestainCollate`.

    Use it as `DataLoader(restained, batch_size=None, num_workers=...)`: it makes the batches of `batch_size` samples
    itself, so that a worker can request the next `in_flight` batches in advance. The order of the batches and their
    bytes depend on the seed and the epoch, and not on the number of workers.

    Epochs count themselves: the first pass over a loader is epoch 0, the second epoch 1, also in workers that persist.
    After `set_epoch(n)` every pass is epoch n, until the next call, as with torch's `DistributedSampler`. Without a
    `seed`, torch's random generator decides.

    With several training processes, each gets its share of the samples, with equally many batches each: those of
    `torch.distributed`, or else of the variables RANK and WORLD_SIZE; or `replica` of `replicas`, if given
    (`replicas=1`: all samples in every process). If accelerate distributes batches, one process makes all of them.

    `slide_of`: the name of each sample's slide, as in `SlideContexts`: a sequence as long as `dataset`, for example a
    column of its metadata; or a key or a function, for which every sample is read once, here. Then 16 tiles of each
    slide become its context when the slide is first met, and variants start from the stain of the slide.

    `state_dict` and `load_state_dict` continue a pass where a training run has stopped, without requests for the
    batches before. `StatefulDataLoader` of torchdata calls them.
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
        replica: int | None = None,
        replicas: int | None = None,
        image: int | str = 0,
        then: Then | None = None,
        slide_of: Sequence[Any] | Callable[[Any], Any] | str | int | None = None,
        **options: Unpack[AugmentOptions],
    ) -> None:
        counts = {"batch_size": batch_size, "in_flight": in_flight, "replicas": 1 if replicas is None else replicas}
        for name, value in counts.items():
            if operator.index(value) < 1:
                raise ValueError(f"{name} is {value}, and must be at least 1")
        if replica is not None and not 0 <= replica < (replicas or 0):
            raise ValueError(f"replica is {replica} of {replicas} replicas, and must be below the number of replicas")
        self.dataset = dataset
        self.batch_size = operator.index(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.in_flight = operator.index(in_flight)
        self.replica = replica
        self.replicas = replicas
        self._slides: SlideContexts | None = None
        if slide_of is not None:
            if options.get("slide") is not None:
                raise ValueError("slide is the slide of all samples, and slide_of that of each: give one of them")
            names = names_of(dataset, slide_of)
            self._slides = SlideContexts(
                client, dataset, names, model=options.get("model"), tile_of=partial(tile_of, image)
            )
        self._collate = RestainCollate(
            client, variants=variants, originals=originals, image=image, then=then, **options
        )
        self._epochs = Epochs(seed)
        self._position: Position | None = None
        self._loaded: Mapping[str, Any] | None = None
        self._refuse_seedless(ranks.world_size() if replicas is None else replicas)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker does not know its process's rank.
        replica, replicas = (self.replica, self.replicas) if not ranks.is_spawning() else self._share()
        return {**self.__dict__, "replica": replica, "replicas": replicas, "_position": None}

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch all passes are that begin before the next call. It need not be called."""
        if self._epochs.set_epoch(epoch):
            warnings.warn(
                f"set_epoch({epoch}) drops the position in another epoch that load_state_dict has set",
                RuntimeWarning,
                stacklevel=2,
            )

    def __len__(self) -> int:
        """Returns the number of batches in an epoch, of this process's share."""
        return self._batches(self._share()[1])

    def __iter__(self) -> Batches:
        batches = Batches(self._begin, self.__len__, self._batch, self.in_flight)
        # In a worker the pass begins at once: torchdata asks for its position before the first batch. Elsewhere it
        # begins with the first batch, because torchdata makes iterators that it does not use.
        if get_worker_info() is not None:
            batches.begin()
        return batches

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Returns the position in the running pass, for `load_state_dict`: its epoch, and the batches consumed of it.

        `batches`: how many the training loop has consumed in this epoch. Give it if a `DataLoader` with workers makes
        them, because workers make batches in advance; otherwise `RuntimeError`. (`StatefulDataLoader` keeps count.)
        """
        common = {"seed": self._epochs.seed, **self._shape()}
        worker, position, last = get_worker_info(), self._position, self._epochs.last()
        if worker is not None:
            if position is None:
                return {}
            at = {"batches": position.running.skipped, "own": position.own, "worker": worker.id}
            return {**common, **self._pass(position.running), **at, "workers": worker.num_workers}
        if last is None:
            running = self._epochs.upcoming()
            return {**common, **self._pass(running), "batches": running.skipped if batches is None else batches}
        running, is_in_workers = last
        if batches is None:
            if is_in_workers or position is None:
                raise RuntimeError(
                    "workers make batches in advance, so how many are consumed is unknown here: "
                    "pass state_dict(batches=...), or use torchdata's StatefulDataLoader"
                )
            batches = position.consumed
        if batches >= len(self):
            return {**common, "epoch": running.epoch + 1, "batches": 0}
        return {**common, **self._pass(running), "batches": batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was called: the next pass is of that epoch, without the batches consumed before.

        The samples that it skips are neither read nor sent. Later passes count on from there. `{"epoch": n}` alone
        begins with epoch n. Raises `ValueError` if the state is that of another seed, number of samples or batch size,
        with which the batches would be others.
        """
        if not state:
            return
        own = {"seed": self._epochs.seed, **self._shape()}
        for name, value in own.items():
            if name in state and state[name] != value:
                raise ValueError(f"the state has {name} {state[name]}, and this dataset has {value}")
        worker = get_worker_info()
        if worker is None:
            if "own" in state:
                raise ValueError("the state is that of one worker: load it in a DataLoader with as many workers")
            self._epochs.resume(state["epoch"], state.get("batches", 0), state.get("drawn"))
            return
        if (state.get("worker"), state.get("workers")) != (worker.id, worker.num_workers):
            raise ValueError(f"the state has {state.get('workers')} workers, and there are {worker.num_workers}")
        self._loaded = state

    def _begin(self) -> Position:
        replica, replicas = self._share()
        self._refuse_seedless(replicas)
        worker, state = get_worker_info(), self._loaded
        if state is None:
            running, own = self._epochs.begin(), 0
        else:
            seed = self._epochs.seed_of(state["epoch"], state.get("drawn", -1))
            running, own = Pass(state["epoch"], seed, state["batches"]), state["own"]
            self._epochs.count_on(running)
            self._loaded = None
        at = (0, 1) if worker is None else (worker.id, worker.num_workers)
        self._position = Position(running, self._order(running.seed, replica, replicas), *at, own)
        return self._position

    def _batch(self, position: Position, number: int) -> Batch:
        places = position.order[number * self.batch_size : (number + 1) * self.batch_size].tolist()
        slides = None if self._slides is None else self._slides.of_places(places)
        return self._collate.begin([self.dataset[place] for place in places], slides)

    def _order(self, seed: int, replica: int, replicas: int) -> torch.Tensor:
        """Returns the indices of this process's samples, in the order of the epoch."""
        count = len(self.dataset)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        return order[replica::replicas][: count // replicas if replicas > 1 else count]

    def _pass(self, running: Pass) -> dict[str, int]:
        is_drawn = self._epochs.seed is None and running.seed != -1
        return {"epoch": running.epoch, **({"drawn": running.seed} if is_drawn else {})}

    def _share(self) -> tuple[int, int]:
        return ranks.share(self.replica, self.replicas)

    def _shape(self) -> dict[str, Any]:
        """Returns what decides which samples a batch has, besides seed and epoch."""
        replicas = ranks.world_size() if self.replicas is None else self.replicas
        return {"samples": len(self.dataset), "batch_size": self.batch_size, "replicas": replicas}

    def _batches(self, replicas: int) -> int:
        samples = len(self.dataset) // replicas if replicas > 1 else len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def _refuse_seedless(self, replicas: int) -> None:
        if replicas > 1 and self._epochs.seed is None and self.shuffle:
            raise ValueError(
                f"{replicas} training processes shuffle the samples in one common order, which needs a seed: "
                "give them the same"
            )
