"""The encoder in BentoML, which batches the tiles of all requests along their first axis.

Its main server takes no arrays as bytes, so a service before the encoder reads bodies and passes arrays on.
"""

import bentoml
import numpy as np
from encoder import BATCH, Encoder, tiles_of
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route


QUIET = {"metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}


@bentoml.service(workers=1, threads=64, traffic={"timeout": 120}, **QUIET)
class EncoderService:
    def __init__(self):
        self.encoder = Encoder()

    # A batch must hold the largest request; the encoder itself runs BATCH tiles at once. Nothing is rejected for its wait.
    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=max(BATCH, 32), max_latency_ms=120_000)
    def encode(self, tiles: np.ndarray) -> np.ndarray:
        return self.encoder.run(tiles)


async def raw(request):
    made = await bentoml.get_current_service().encoder.to_async.encode(tiles=tiles_of(await request.body()))
    return Response(np.asarray(made).tobytes(), media_type="application/octet-stream")


@bentoml.service(workers=1, traffic={"timeout": 120}, **QUIET)
@bentoml.asgi_app(Starlette(routes=[Route("/", raw, methods=["POST"])]), path="/raw")
class Front:
    encoder = bentoml.depends(EncoderService)
