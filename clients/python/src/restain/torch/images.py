"""Conversion of a pipeline's images to tiles, and of variants back to the same type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import pictures


def is_image(value: Any) -> bool:
    """Returns whether a value may be an image: a PIL image, an array [.., H, W, 3] or a tensor [.., 3, H, W].

    >>> is_image(np.zeros((8, 8, 3), np.uint8)), is_image(torch.zeros(3, 8, 8)), is_image(torch.zeros(4))
    (True, True, False)
    """
    if isinstance(value, torch.Tensor):
        return value.ndim >= 3 and value.shape[-3] == 3
    if isinstance(value, np.ndarray):
        return value.ndim >= 3 and value.shape[-1] == 3
    return hasattr(value, "convert") and hasattr(value, "mode")


def pixels(image: Any) -> NDArray[np.uint8]:
    """Converts a PIL image, an array uint8 [.., H, W, 3] or a tensor [.., 3, H, W] to uint8 [.., H, W, 3].

    Floating-point tensors must contain pixels in 0..1, the result of `ToImage` and `ToDtype(scale=True)`.

    >>> pixels(torch.full((3, 2, 2), 0.5)).tolist()[0][0]
    [128, 128, 128]
    """
    if isinstance(image, torch.Tensor):
        return _of_tensor(image)
    array = pictures.rgb(image) if hasattr(image, "convert") else np.asarray(image)
    if array.dtype != np.uint8 or array.ndim < 3 or array.shape[-1] != 3:
        raise ValueError(f"the array is {array.dtype} {list(array.shape)}, and must be uint8 [.., H, W, 3]")
    return array


def _of_tensor(image: torch.Tensor) -> NDArray[np.uint8]:
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"the tensor is {list(image.shape)}, and must be [.., 3, H, W]")
    plain = image.detach().as_subclass(torch.Tensor).cpu()
    if plain.is_floating_point():
        low, high = (float(bound) for bound in torch.aminmax(plain))
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"the tensor has pixels from {low:g} to {high:g}, and must be in 0..1: normalise after re-staining"
            )
        plain = (plain * 255).round().to(torch.uint8)
    elif plain.dtype != torch.uint8:
        raise ValueError(f"the tensor is {plain.dtype}, and must be uint8 or floating point")
    return plain.movedim(-3, -1).numpy()


def like(made: NDArray[np.uint8], image: Any) -> Any:
    """Converts uint8 [.., H, W, 3] to an image of the same type as `image`."""
    if isinstance(image, torch.Tensor):
        tensor = torch.from_numpy(made).movedim(-1, -3)
        if image.is_floating_point():
            tensor = tensor.to(image.dtype) / 255
        tensor = tensor.to(image.device)
        if type(image) is torch.Tensor:
            return tensor
        from torchvision import tv_tensors

        return tv_tensors.wrap(tensor, like=image)
    if hasattr(image, "convert"):
        from PIL import Image

        return Image.fromarray(made)
    return made


def memory(count: int, height: int, width: int) -> torch.Tensor:
    """Returns uninitialised memory, uint8 [count, H, W, 3]. In a worker it is shared memory, so that the training
    process gets the batch without a copy."""
    size = count * height * width * 3
    if torch.utils.data.get_worker_info() is None:
        return torch.empty((count, height, width, 3), dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(size, device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (count, height, width, 3))  # type: ignore[call-overload, no-any-return]
