"""The encoder in mosec. A request and its response are bytes."""

from encoder import BATCH, Encoder, run_all, tiles_of
from mosec import Server, Worker


class EncoderWorker(Worker):
    def __init__(self):
        self.encoder = Encoder()

    def deserialize(self, data):
        return tiles_of(data)

    def serialize(self, data):
        return data

    def forward(self, data):
        return run_all(self.encoder, data) if isinstance(data, list) else run_all(self.encoder, [data])[0]


if __name__ == "__main__":
    server = Server()
    server.append_worker(EncoderWorker, num=1, max_batch_size=BATCH, max_wait_time=5, timeout=120)
    server.run()
