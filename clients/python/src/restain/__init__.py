"""restain: domain-shifted variants of histopathology tiles, from a server into a training loop.

`Client` and `AsyncClient` ask a server; `synthesise` makes variants on this side of the wire. `restain.torch` and
`restain.albumentations` put them into data pipelines, and are imported by name, as they need those packages.
"""

from pkgutil import extend_path

# gRPC stubs made from proto/restain/v1 are `restain.v1`, wherever they lie: both are found side by side.
__path__ = extend_path(__path__, __name__)

from .aio import AsyncClient
from .answers import Augmented, Domain, EncoderModel, Encodings, ModelInfo, Provenance, StyleInfo, Styles, Timings
from .bank import BankStyle, StyleBank
from .client import Client
from .errors import (
    AccessDenied,
    Conflict,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    RequestError,
    RestainError,
    ServerError,
    TooLarge,
    Unavailable,
)
from .keys import epoch_seed, tile_key
from .retry import Retry
from .style import Part, Style
from .synth import reconstruct, synthesise
from .tiles import Limits

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Augmented",
    "BankStyle",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Domain",
    "EncoderModel",
    "Encodings",
    "InternalError",
    "InvalidRequest",
    "Limits",
    "ModelInfo",
    "NotFound",
    "Overloaded",
    "Part",
    "Provenance",
    "RequestError",
    "RestainError",
    "Retry",
    "ServerError",
    "Style",
    "StyleBank",
    "StyleInfo",
    "Styles",
    "Timings",
    "TooLarge",
    "Unavailable",
    "epoch_seed",
    "reconstruct",
    "synthesise",
    "tile_key",
]
