"""Collation of samples to batches of originals and variants, with their labels."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from ..client import Client
from ..contexts import OfSlides, SlideContexts
from ..options import AugmentOptions
from . import images
from .epochs import Epochs

if TYPE_CHECKING:
    from typing_extensions import Unpack

Then = Callable[[torch.Tensor], torch.Tensor]


class RestainCollate:
    """A `collate_fn`: collates samples to a batch of their images and `variants` variants of each.

    A sample is an image, or a tuple or mapping that contains it at `image`: an index, a name (of a mapping's item or a
    named tuple's field), or by default the first item, in a mapping the first that is an image. Images are PIL images,
    arrays uint8 [H, W, 3] or tensors [3, H, W]. A batch has the originals first (unless `originals=False`), then the
    variants, tile by tile: for tiles a and b with two variants each, `a b a0 a1 b0 b1`. The rest of a sample is
    collated as usual and repeated in the same order. The default is one variant for each original, as in the paper.

    The images are a tensor [n, 3, H, W] in channels-last order: uint8, or in 0..1 if the samples are floating point.
    `then` is applied to this tensor, for example to normalise it. If the images of a batch have several sizes, they are
    a list of tensors [3, H, W]. Then `then` is applied to each of them, and if it brings them to one size, for example
    by a crop, the batch is a tensor as above.

    `slides`: the contexts of the slides that samples are from, with a key or a function that finds a slide's name in a
    sample.

    In a `DataLoader` epochs count themselves, as in `RestainDataset`; elsewhere call `set_epoch` before each epoch, or
    every epoch has the same variants. Without a `seed`, every batch draws one from torch's random generator.
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
        slides: SlideContexts | None = None,
        **options: Unpack[AugmentOptions],
    ) -> None:
        variants = operator.index(variants)
        if variants < 1:
            raise ValueError(f"variants is {variants}, and must be at least 1")
        if slides is not None and options.get("slide") is not None:
            raise ValueError("slide is the slide of all samples, and slides says that of each: give one of them")
        self.client = client
        self.variants = variants
        self.originals = originals
        self.image = image
        self.then = then
        self.slides = slides
        self.options = options
        self._epochs = Epochs(seed)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch all passes are that begin before the next call. It need not be called."""
        self._epochs.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Returns the number of the running epoch, for `load_state_dict`."""
        return {"epoch": self._epochs.current()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Says that the next pass of a `DataLoader` is the epoch of `state`; later passes count on from there."""
        self._epochs.resume(state["epoch"])

    def __call__(self, samples: Sequence[Any]) -> Any:
        batch, seed = self.begin(samples), self._epochs.seed_here()
        batch.settle(partial(batch.ask, seed), seed)
        return batch.finish()

    def begin(self, samples: Sequence[Any], slides: OfSlides | None = None) -> Batch:
        """Returns a batch without its variants, which `Batch.ask` requests. `slides`: if samples do not name them."""
        if slides is None and self.slides is not None:
            slides = self.slides.of_samples(samples)
        return Batch(self, samples, None if slides is None else slides.prepare())


class Batch:
    """A batch, made in three steps. The second waits for the server and can run in any thread: it does not call torch,
    whose operations start threads of their own in every calling thread."""

    def __init__(self, of: RestainCollate, samples: Sequence[Any], slides: OfSlides | None) -> None:
        self._of = of
        self._samples = samples
        self._slides = slides
        self._at = samples_image(samples[0], of.image)
        pictures = [sample if self._at is None else sample[self._at] for sample in samples]
        tiles = [images.pixels(picture) for picture in pictures]
        self._first = pictures[0]
        self._tiles: NDArray[np.uint8] | list[NDArray[np.uint8]] = tiles
        self._made: list[NDArray[np.uint8]] = []
        self._memory: torch.Tensor | None = None
        self._out: NDArray[np.uint8] | None = None
        if len({tile.shape for tile in tiles}) > 1 or of.options.get("detail") == "model":
            return
        count, (height, width) = len(tiles), tiles[0].shape[:2]
        kept = count if of.originals else 0
        self._memory = images.memory(kept + count * of.variants, height, width)
        room = self._memory.numpy()
        self._tiles = room[:kept] if of.originals else np.empty((count, height, width, 3), np.uint8)
        np.stack(tiles, out=self._tiles)
        self._out = room[kept:].reshape(count, of.variants, height, width, 3)

    def ask(self, seed: int) -> None:
        """Requests the variants with this seed."""
        of, variants = self._of, self._of.variants
        options = of.options if self._slides is None else {**of.options, "slide": self._slides}
        made = of.client.augment(self._tiles, variants=variants, seed=seed, out=self._out, **options).variants
        if self._memory is None:
            self._made = [*(self._tiles if of.originals else ()), *(variant for each in made for variant in each)]

    def settle(self, asking: Callable[[], None], seed: int) -> None:
        """Waits for `asking`, which ends when the variants are there. If the server has lost the context of a slide,
        adds it again in this thread, which may read samples, and requests the variants again."""
        if self._slides is None:
            asking()
        else:
            self._slides.renewing(asking, partial(self.ask, seed))

    def finish(self) -> Any:
        """Returns the batch for the training loop, of the same type as a sample."""
        first, made = self._samples[0], self._images()
        if self._at is None:
            return made
        names = list(first) if isinstance(first, Mapping) else range(len(first))
        repeated = self._repeated()
        batch = [made if n == self._at else default_collate([sample[n] for sample in repeated]) for n in names]
        if isinstance(first, Mapping):
            return _mapping_like(first, dict(zip(names, batch, strict=True)))
        if hasattr(first, "_fields"):
            return type(first)(*batch)
        return tuple(batch) if isinstance(first, tuple) else batch

    def _images(self) -> torch.Tensor | list[torch.Tensor]:
        if self._memory is not None:
            return self._then(self._memory.permute(0, 3, 1, 2))
        # Copies, because every variant would keep the whole response in memory.
        each = [self._then(torch.from_numpy(image.copy()).permute(2, 0, 1)) for image in self._made]
        if len({tuple(image.shape) for image in each}) > 1:
            return each
        batch = torch.stack(each)
        return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch

    def _then(self, batch: torch.Tensor) -> torch.Tensor:
        """Returns images [.., 3, H, W] as the training loop gets them."""
        if isinstance(self._first, torch.Tensor) and self._first.is_floating_point():
            batch = batch.to(self._first.dtype) / 255
        return batch if self._of.then is None else self._of.then(batch)

    def _repeated(self) -> list[Any]:
        """Returns the sample of each original, if the batch has them, and of each variant."""
        each = [sample for sample in self._samples for _ in range(self._of.variants)]
        return [*self._samples, *each] if self._of.originals else each


def tile_of(image: int | str, sample: Any) -> NDArray[np.uint8]:
    """Returns the pixels of a sample's image, uint8 [H, W, 3]."""
    at = samples_image(sample, image)
    return images.pixels(sample if at is None else sample[at])


def samples_image(sample: Any, image: int | str) -> Any:
    """Returns the key of the image in a sample; None if the sample is the image. Raises `KeyError` or `TypeError`."""
    if isinstance(sample, Mapping):
        if image in sample:
            return image
        found = [name for name, value in sample.items() if images.is_image(value)]
        if image == 0 and found:
            return found[0]
        raise KeyError(f"image is {image!r}, and samples have {', '.join(map(repr, sample))}")
    if not isinstance(sample, tuple | list):
        return None
    fields = getattr(sample, "_fields", ())
    if image in fields:
        return fields.index(image)
    if not isinstance(image, int):
        raise TypeError(f"image is {image!r}, and must be an index or a field's name, because the samples are tuples")
    return range(len(sample))[image]


def _mapping_like(first: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    if type(first) is dict:
        return items
    # As torch's default_collate: a copy keeps what else the mapping has, such as a default.
    made = copy.copy(first)
    if not isinstance(made, MutableMapping):
        return items
    made.update(items)
    return made
