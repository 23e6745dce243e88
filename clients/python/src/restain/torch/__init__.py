"""restain in PyTorch: `RestainDataset` and `RestainCollate` for a `DataLoader`, `RestainTransform` for a pipeline, and
`synthesise` on the device of the model in training.

A variant depends only on the tile, the seed and the epoch, not on workers, batches or machines.
"""

from .batches import RestainCollate
from .dataset import RestainDataset
from .synth import TorchEncodings, synthesise
from .transform import RestainTransform

__all__ = ["RestainCollate", "RestainDataset", "RestainTransform", "TorchEncodings", "synthesise"]
