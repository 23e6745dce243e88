"""Collation of samples to batches of originals and variants, with their labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import default_collate

from ..client import Client
from ..options import AugmentOptions
from . import images
from .seeds import EpochSeed

if TYPE_CHECKING:
    from typing_extensions import Unpack

Then = Callable[[torch.Tensor], torch.Tensor]


class RestainCollate:
    """A `collate_fn`: collates samples to a batch of their images and `variants` variants of each.

    A sample is an image, or a tuple or mapping that contains it at `image`. Images are PIL images, arrays uint8 [H,
    W, 3] or tensors [3, H, W]. A batch has the originals first (unless `originals=False`), then the variants, tile by
    tile: for tiles a and b with two variants each, `a b a0 a1 b0 b1`. The rest of a sample is collated as usual and
    repeated in the same order. The default is one variant for each original, as in the paper.

    The images are a tensor [n, 3, H, W] in channels-last order: uint8, or in 0..1 if the samples are floating point.
    `then` is applied to this tensor, for example to normalise it.

    With a `seed`, call `set_epoch` before each epoch; otherwise every epoch has the same variants. Without a `seed`,
    torch's random generator is used.
    """

    def __init__(
        self,
        client: Client,
        *,
        variants: int = 1,
        originals: bool = True,
        seed: int | None = None,
        image: int | str = 0,
        then: Then | None = None,
        **options: Unpack[AugmentOptions],
    ) -> None:
        if variants < 1:
            raise ValueError(f"variants is {variants}, and must be at least 1")
        self.client = client
        self.variants = variants
        self.originals = originals
        self.image = image
        self.then = then
        self.options = options
        self._seed = EpochSeed(seed)

    def set_epoch(self, epoch: int) -> None:
        self._seed.set_epoch(epoch)

    def __call__(self, samples: Sequence[Any]) -> Any:
        batch = self.begin(samples)
        batch.ask(self._seed())
        return batch.finish()

    def begin(self, samples: Sequence[Any]) -> Batch:
        """Returns a batch without its variants, which `Batch.ask` requests."""
        return Batch(self, samples)


class Batch:
    """A batch, made in three steps. The second waits for the server and can run in any thread: it does not call torch,
    whose operations start threads of their own in every calling thread."""

    def __init__(self, of: RestainCollate, samples: Sequence[Any]) -> None:
        self._of = of
        self._samples = samples
        pictures = [self._image(sample) for sample in samples]
        tiles = [images.pixels(picture) for picture in pictures]
        count, (height, width) = len(tiles), tiles[0].shape[:2]
        kept = count if of.originals else 0
        self._first = pictures[0]
        self._memory = images.memory(kept + count * of.variants, height, width)
        room = self._memory.numpy()
        self._tiles = room[:kept] if of.originals else np.empty((count, height, width, 3), np.uint8)
        np.stack(tiles, out=self._tiles)
        self._out = room[kept:].reshape(count, of.variants, height, width, 3)

    def ask(self, seed: int) -> None:
        """Requests the variants with this seed."""
        of = self._of
        of.client.augment(self._tiles, variants=of.variants, seed=seed, out=self._out, **of.options)

    def finish(self) -> Any:
        """Returns the batch for the training loop."""
        of, first = self._of, self._samples[0]
        made = self._images()
        if isinstance(first, Mapping):
            rest = [{name: value for name, value in sample.items() if name != of.image} for sample in self._repeated()]
            return {**default_collate(rest), of.image: made}
        if not isinstance(first, tuple | list):
            return made
        place = self._place(first)
        columns = enumerate(zip(*self._repeated(), strict=True))
        batch = [made if n == place else default_collate(list(column)) for n, column in columns]
        return tuple(batch) if isinstance(first, tuple) else batch

    def _images(self) -> torch.Tensor:
        batch = self._memory.permute(0, 3, 1, 2)
        if isinstance(self._first, torch.Tensor) and self._first.is_floating_point():
            batch = batch.to(self._first.dtype) / 255
        return batch if self._of.then is None else self._of.then(batch)

    def _repeated(self) -> list[Any]:
        """Returns the sample of each original, if the batch has them, and of each variant."""
        each = [sample for sample in self._samples for _ in range(self._of.variants)]
        return [*self._samples, *each] if self._of.originals else each

    def _image(self, sample: Any) -> Any:
        if isinstance(sample, Mapping):
            return sample[self._of.image]
        return sample[self._place(sample)] if isinstance(sample, tuple | list) else sample

    def _place(self, sample: Sequence[Any]) -> int:
        image = self._of.image
        if not isinstance(image, int):
            raise TypeError(f"image is {image!r}, and must be an index, because the samples are tuples")
        return range(len(sample))[image]
