"""The encoder in LitServe. A request is a form with a file, its way for bytes."""

import os

import litserve
from encoder import BATCH, Encoder, run_all, tiles_of
from starlette.responses import Response


class Api(litserve.LitAPI):
    def setup(self, device):
        self.encoder = Encoder()

    def decode_request(self, request):
        return tiles_of(request["tiles"].file.read())

    def batch(self, inputs):
        return inputs

    def predict(self, batch):
        return run_all(self.encoder, batch) if isinstance(batch, list) else run_all(self.encoder, [batch])[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=int(os.environ["PEERS_PORT"]), generate_client_file=False, log_level="error")
