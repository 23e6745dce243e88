"""Client of a restain server: variants of histopathology tiles in other stains, for a training loop.

`Client` and `AsyncClient` send requests to a server. `synthesise` computes variants locally from the server's
encodings. `restain.torch` and `restain.albumentations` integrate both into data pipelines; import them by name,
because they need those packages. `restain.local` runs a model in this process, without a server.
"""

from pkgutil import extend_path

# gRPC stubs generated from proto/restain/v1 form the package `restain.v1` in another directory: Python must find both.
__path__ = extend_path(__path__, __name__)

from .aio import AsyncClient
from .answers import Augmented, Domain, EncoderModel, Encodings, ModelInfo, Provenance, StyleInfo, Styles, Timings
from .bank import BankStyle, StyleBank
from .client import Client
from .contexts import SlideContexts
from .errors import (
    AccessDenied,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Intercepted,
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
from .stats import Stats
from .style import Part, Style
from .synth import reconstruct, synthesise
from .tiles import Limits
from .version import __version__

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Augmented",
    "BankStyle",
    "Cancelled",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Domain",
    "EncoderModel",
    "Encodings",
    "Intercepted",
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
    "SlideContexts",
    "Stats",
    "Style",
    "StyleBank",
    "StyleInfo",
    "Styles",
    "Timings",
    "TooLarge",
    "Unavailable",
    "__version__",
    "epoch_seed",
    "reconstruct",
    "synthesise",
    "tile_key",
]
