"""Samples into batches of originals and their variants, labels and all."""

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
    """A `collate_fn`: a list of samples becomes a batch of their images and `variants` of each.

    A sample is an image, or a tuple or mapping that has it at `image`; images are PIL images, arrays uint8 [H, W, 3]
    or tensors [3, H, W]. A batch has its originals first (unless `originals=False`), then the variants, tile by tile:
    of tiles a and b with two variants each, `a b a0 a1 b0 b1`. Everything else in a sample is collated as usual and
    repeated likewise. The paper trains on one variant for each original, which is the default.

    The images are a tensor [n, 3, H, W] in channels-last order, uint8 or, from samples of floating point, in 0..1.
    `then` is applied to it, for whatever else is to be done, normalisation above all.

    With a `seed`, call `set_epoch` before each epoch, or every epoch has the variants of the first. Without one torch's
    generator decides.
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
        return self.batch(samples, self._seed())

    def batch(self, samples: Sequence[Any], seed: int) -> Any:
        """The batch of these samples with the request's own seed."""
        pictures = [self._image(sample) for sample in samples]
        made = self._images(pictures, seed)
        first = samples[0]
        if isinstance(first, Mapping):
            rest = default_collate([{k: v for k, v in sample.items() if k != self.image} for sample in samples])
            return {**self._repeated(rest), self.image: made}
        if not isinstance(first, tuple | list):
            return made
        place = self._place(first)
        rest = [self._repeated(default_collate(list(column))) for column in zip(*samples, strict=True) if column]
        rest[place] = made
        return tuple(rest) if isinstance(first, tuple) else rest

    def _images(self, pictures: Sequence[Any], seed: int) -> torch.Tensor:
        tiles = [images.pixels(picture) for picture in pictures]
        count, (height, width) = len(tiles), tiles[0].shape[:2]
        kept = count if self.originals else 0
        memory = images.memory(kept + count * self.variants, height, width)
        room = memory.numpy()
        stack = room[:kept] if self.originals else np.empty((count, height, width, 3), np.uint8)
        np.stack(tiles, out=stack)
        out = room[kept:].reshape(count, self.variants, height, width, 3)
        self.client.augment(stack, variants=self.variants, seed=seed, out=out, **self.options)
        batch = memory.permute(0, 3, 1, 2)
        first = pictures[0]
        if isinstance(first, torch.Tensor) and first.is_floating_point():
            batch = batch.to(first.dtype) / 255
        return batch if self.then is None else self.then(batch)

    def _place(self, sample: Sequence[Any]) -> int:
        if not isinstance(self.image, int):
            raise TypeError(f"image is {self.image!r}, and samples are tuples: say at which place of them the image is")
        return range(len(sample))[self.image]

    def _image(self, sample: Any) -> Any:
        if isinstance(sample, Mapping):
            return sample[self.image]
        return sample[self._place(sample)] if isinstance(sample, tuple | list) else sample

    def _repeated(self, rest: Any) -> Any:
        """Of n samples what belongs to the n originals, if they are there, and to n · K variants."""
        if isinstance(rest, torch.Tensor):
            each = rest.repeat_interleave(self.variants, dim=0)
            return torch.cat([rest, each]) if self.originals else each
        if isinstance(rest, Mapping):
            return {name: self._repeated(value) for name, value in rest.items()}
        if rest and not isinstance(rest[0], str | bytes):
            return [self._repeated(value) for value in rest]
        each_text = [value for value in rest for _ in range(self.variants)]
        return [*rest, *each_text] if self.originals else each_text
