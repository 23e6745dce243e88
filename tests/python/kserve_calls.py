"""A program that calls a server with KServe's SDK: `kserve_calls.py URL GRPC FOLDER`, which holds `tiles.npy`, and gets the outputs of each call.

It is a process of its own because protobuf allows one definition of a message in a process, and the SDK's and tritonclient's have one name.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

CALLS = {"rest-json": ("rest", False), "rest-binary": ("rest", True), "grpc": ("grpc", True)}


def request(tiles, binary, **parameters):
    """One request, as the SDK's user makes it."""
    given = InferInput("TILES", list(tiles.shape), "UINT8")
    given.set_data_from_numpy(tiles, binary_data=binary)
    outputs = [RequestedOutput(name, {"binary_data": binary}) for name in ["VARIANTS", "STYLE_IDS", "FIDELITY"]]
    return InferRequest(model_name="tiny", infer_inputs=[given], request_outputs=outputs, parameters=parameters)


async def main(url, grpc, folder):
    tiles = np.load(folder / "tiles.npy")
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    async with InferenceGRPCClient(grpc) as other:
        for name, (wire, binary) in CALLS.items():
            for method in ["identity", "vit"]:
                asked = request(tiles, binary, variants=3, seed=7, method=method)
                answer = await (rest.infer(url, asked, model_name="tiny") if wire == "rest" else other.infer(asked))
                np.savez(folder / f"{name}-{method}.npz", **{output.name: output.as_numpy() for output in answer.outputs})
        ready = [await rest.is_server_ready(url), await rest.is_server_live(url), await rest.is_model_ready(url, "tiny")]
        ready += [await other.is_server_ready(), await other.is_server_live(), await other.is_model_ready("tiny")]
    await rest.close()
    # The SDK's own bodies, for a caller that compresses them.
    for binary in [False, True]:
        body, length = request(tiles, binary, method="identity").to_rest()
        (folder / f"body-{binary}").write_bytes(body if length else json.dumps(body).encode())
        (folder / f"length-{binary}").write_text(str(length or ""))
    print(json.dumps(ready))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
