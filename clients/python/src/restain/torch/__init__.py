"""restain in PyTorch: `RestainDataset` and `RestainCollate` for a `DataLoader`, `RestainTransform` for a pipeline, and
`synthesise` and `worst_case` on the device of the model in training.

A variant depends only on the tile, the seed and the epoch, not on workers, batches or machines.
"""

from .batches import RestainCollate
from .dataset import RestainDataset
from .style_ball import StyleBall, WorstCase, worst_case, worst_case_batch
from .synth import TorchEncodings, synthesise
from .transform import RestainTransform

__all__ = [
    "RestainCollate",
    "RestainDataset",
    "RestainTransform",
    "StyleBall",
    "TorchEncodings",
    "WorstCase",
    "synthesise",
    "worst_case",
    "worst_case_batch",
]
