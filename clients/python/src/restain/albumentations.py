"""restain in an albumentations pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from albumentations.core.transforms_interface import ImageOnlyTransform
from numpy.typing import NDArray

from .client import MAX_SEED, Client
from .keys import epoch_seed
from .style import Style

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import AugmentOptions

# The arguments of a client that are saved with a pipeline. Its key and headers are secrets.
_SAVED = ("url", "spread", "shards", "model", "timeout", "connect_timeout", "on_error", "connections", "ca_certs")


class Restain(ImageOnlyTransform):  # type: ignore[misc]
    """Re-stains an image [H, W, 3], uint8 or float32 in 0..1, in and out; masks and boxes stay unchanged.

    Put it before crops and colour changes, because the server's cache identifies a tile by its pixels, and before
    normalisation.

    It uses the pipeline's random generator, so that `A.Compose(..., seed=7)` makes it repeatable. In a worker of a
    `DataLoader` it also uses the worker's seed, because workers are copies of one pipeline and would repeat one
    another, and every epoch the one before. There `torch.manual_seed` makes it repeatable.

    Pipelines with it can be saved, loaded and replayed. The client is saved as its arguments, without key, client
    certificate and headers: a loaded pipeline takes the key from the environment variable RESTAIN_KEY, or replace its
    `client`. (`client` may be such a mapping of arguments.)
    """

    def __init__(self, client: Client | Mapping[str, Any], p: float = 1.0, **options: Unpack[AugmentOptions]) -> None:
        super().__init__(p=p)
        self.client = Client(**client) if isinstance(client, Mapping) else client
        style = options.get("style")
        if isinstance(style, Mapping):
            options["style"] = Style.from_dict(style)
        self.options = options

    def get_params(self) -> dict[str, Any]:
        drawn = self.py_random.randint(0, MAX_SEED)
        seed = _worker_seed()
        return {"seed": drawn if seed is None else epoch_seed(drawn, seed)}

    def apply(self, img: NDArray[Any], seed: int, **params: Any) -> NDArray[Any]:
        made: NDArray[Any] = self._restained(img[None], seed)[0]
        return made

    def apply_to_images(self, images: NDArray[Any] | Sequence[NDArray[Any]], seed: int, **params: Any) -> Any:
        if isinstance(images, np.ndarray):
            return self._restained(images, seed)
        return [self._restained(image[None], seed)[0] for image in images]

    def get_transform_init_args(self) -> dict[str, Any]:
        """Returns the arguments that make this transform again, as plain numbers, strings, lists and dicts."""
        client = {name: getattr(self.client, name) for name in _SAVED}
        style = self.options.get("style")
        plain = {**self.options, **({} if style is None else {"style": style.to_dict()})}
        return {"client": _plain(client), **_plain(plain)}

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return ("client", *self.options)

    def _restained(self, images: NDArray[Any], seed: int) -> NDArray[Any]:
        if images.dtype != np.float32:
            return self.client.augment(images, seed=seed, **self.options).variants[:, 0]
        low, high = float(images.min()), float(images.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"the image has pixels from {low:g} to {high:g}, and must be in 0..1: normalise after re-staining"
            )
        tiles = np.rint(images * 255).astype(np.uint8)
        variants = self.client.augment(tiles, seed=seed, **self.options).variants[:, 0]
        scaled: NDArray[Any] = variants.astype(np.float32) / np.float32(255)
        return scaled


def _worker_seed() -> int | None:
    """Returns the seed of the `DataLoader`'s worker that this process is; None if it is none."""
    data = sys.modules.get("torch.utils.data")
    worker = None if data is None else data.get_worker_info()
    return None if worker is None else worker.seed


def _plain(value: Any) -> Any:
    """Converts tuples, mappings and numpy's numbers and arrays to what JSON and YAML have."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
