"""restain in PyTorch: `RestainDataset` and `RestainCollate` for a `DataLoader`, `RestainTransform` for a pipeline, and
`synthesise` on the device of the model that is trained.

Every variant depends on the tile, the seed and the epoch, and on nothing else: not on workers, batches or machines.
"""

from .batches import RestainCollate
from .dataset import RestainDataset
from .synth import TorchEncodings, synthesise
from .transform import RestainTransform

__all__ = ["RestainCollate", "RestainDataset", "RestainTransform", "TorchEncodings", "synthesise"]
