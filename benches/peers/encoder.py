"""The encoder as the peers run it: one session for all cores, as in the server, with outputs in half precision."""

import os

import numpy as np
import onnxruntime

MODEL = os.environ["PEERS_ENCODER"]
SIDE = int(os.environ["PEERS_SIDE"])
THREADS = int(os.environ["PEERS_THREADS"])
# On a CPU an encoder is fastest with as many tiles as it has threads: BENCHMARKS.md.
BATCH = int(os.environ["PEERS_BATCH"])


class Encoder:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        for size in range(1, BATCH + 1):
            self.run(np.zeros((size, SIDE, SIDE, 3), np.uint8))

    def run(self, tiles):
        """uint8 [n, H, W, 3] → float16 [n, N, 2h]: anatomy and characteristics, in batches of at most BATCH."""
        parts = [self.session.run(["anatomy", "characteristics"], {"tiles": tiles[at : at + BATCH]}) for at in range(0, len(tiles), BATCH)]
        return np.concatenate([np.concatenate(part, axis=2).astype(np.float16) for part in parts])


def tiles_of(body):
    return np.frombuffer(body, np.uint8).reshape(-1, SIDE, SIDE, 3)


def run_all(encoder, requests):
    """Runs the tiles of several requests together; returns one body for each."""
    sizes = [len(tiles) for tiles in requests]
    made = encoder.run(np.concatenate(requests))
    return [part.tobytes() for part in np.split(made, np.cumsum(sizes)[:-1])]
