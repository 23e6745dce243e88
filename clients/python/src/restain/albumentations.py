"""restain in an albumentations pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from albumentations.core.transforms_interface import ImageOnlyTransform
from numpy.typing import NDArray

from .client import MAX_SEED, Client

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import AugmentOptions


class Restain(ImageOnlyTransform):  # type: ignore[misc]
    """Re-stains an image: uint8 [H, W, 3] in and out; masks and boxes stay unchanged.

    Put it before crops and colour changes, because the server's cache identifies a tile by its pixels. It uses the
    pipeline's random generator: `A.Compose(..., seed=7)` makes it repeatable, and every worker of a `DataLoader` has
    its own.
    """

    def __init__(self, client: Client, p: float = 1.0, **options: Unpack[AugmentOptions]) -> None:
        super().__init__(p=p)
        self.client = client
        self.options = options

    def get_params(self) -> dict[str, Any]:
        return {"seed": int(self.py_random.randint(0, MAX_SEED))}

    def apply(self, img: NDArray[np.uint8], seed: int, **params: Any) -> NDArray[np.uint8]:
        made: NDArray[np.uint8] = self.apply_to_images(img[None], seed)[0]
        return made

    def apply_to_images(self, images: NDArray[np.uint8], seed: int, **params: Any) -> NDArray[np.uint8]:
        variants = self.client.augment(images, seed=seed, **self.options).variants
        return variants[:, 0]

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return ()
