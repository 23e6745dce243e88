"""Conversion of PIL images to 8-bit RGB, by the server's rules and without silent changes of values.

`Image.convert` alone clips 16-bit images to white and drops transparency.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rgb(image: Any) -> NDArray[np.uint8]:
    """Returns a PIL image as uint8 [H, W, 3].

    16-bit grey levels (`I;16`) are scaled to 8 bits, 65535 to 255. Transparency is laid on white. Raises `ValueError`
    for modes `I` and `F`, whose numbers have no fixed range.
    """
    mode: str = image.mode
    if mode.startswith("I;16"):
        grey = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if mode in ("I", "F"):
        raise ValueError(
            f"the image has mode {mode}, 32-bit numbers without a fixed range: scale it to 8 bits, mode RGB or L, first"
        )
    if mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in getattr(image, "info", {}):
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA")).astype(np.uint32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    on_white: NDArray[np.uint8] = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return on_white
