"""A caller who means ill, for benches/soak.py: what SECURITY.md says is refused, left open or cut short, time and again."""

import base64
import gzip
import json
import random
import socket
import struct
import time
import zlib

# Longer than the server's own clocks in the soak.
STUCK = 120


def picture(width, height, bits=8, color=0):
    """A black PNG of any size, in few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compress, row = zlib.compressobj(9), bytes(1 + width * bits // 8 * (3 if color == 2 else 1))
    data = b"".join(compress.compress(row) for _ in range(height)) + compress.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


WIDE = picture(3_000_000, 1)
LARGE = picture(1024, 1024, color=2)
BOMB = gzip.compress(bytes(80 << 20))


class HostileCaller:
    """Does one thing after another, and fails if an answer is other than a refusal, or none comes where one is due."""

    def __init__(self, address, grpc_address, counts, unexpected):
        self.address = tuple(address.rsplit(":", 1))
        self.grpc_address = tuple(grpc_address.rsplit(":", 1))
        self.counts, self.unexpected, self.rng = counts, unexpected, random.Random(666)
        self.acts = [getattr(self, name) for name in dir(self) if name.startswith("act_")]

    def once(self):
        act = self.rng.choice(self.acts)
        act()
        self.counts["hostile: " + act.__name__.removeprefix("act_")] += 1

    def connect(self, address=None):
        host, port = address or self.address
        return socket.create_connection((host, int(port)), timeout=STUCK)

    def refused(self, body, kind="image/png", path="/v1/augment", statuses=(400, 413, 415, 422, 429), **headers):
        """Sends a request, and reads that it is refused."""
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        with self.connect() as stream:
            try:
                stream.sendall(head.encode() + b"\r\n" + body)
            except ConnectionError:
                # Refused from its head, while the rest was being sent.
                pass
            try:
                answer = stream.recv(4096)
            except ConnectionError:
                return
        status = int(answer.split()[1]) if answer else 0
        if answer and status not in statuses:
            raise self.unexpected(f"{path} with {len(body)} bytes of {kind}: {status}, expected one of {statuses}")

    def act_wide_picture(self):
        self.refused(WIDE)

    def act_empty_items(self):
        self.refused(json.dumps({"tiles": [""] * 60_000}).encode(), "application/json")

    def act_ids_without_end(self):
        style = {"ids": [f"x/{number}" for number in range(60_000)]}
        tiles = [base64.b64encode(LARGE).decode()]
        self.refused(json.dumps({"tiles": tiles, "request": {"style": style}}).encode(), "application/json")

    def act_deep_json(self):
        self.refused(b'{"request":' * 50_000, "application/json")

    def act_tensors_of_one_pixel(self):
        text = json.dumps({"tiles": {"dtype": "U8", "shape": [100_000, 1, 1, 3], "data_offsets": [0, 300_000]}}).encode()
        self.refused(struct.pack("<Q", len(text)) + text + bytes(300_000), "application/vnd.restain.safetensors")

    def act_gzip_bomb(self):
        self.refused(BOMB, "application/json", content_encoding="gzip")

    def act_half_a_body(self):
        with self.connect() as stream:
            stream.sendall(b"POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 9000000\r\n\r\n" + bytes(90_000))

    def act_half_a_head(self):
        with self.connect() as stream:
            stream.sendall(b"POST /v1/augment HTTP/1.1\r\nhost: x\r\nx-")
            time.sleep(self.rng.random())

    def act_costly_and_gone(self):
        """A large picture many times over, in the slowest format, from a caller who leaves."""
        head = f"POST /v1/augment?variants=18&format=webp HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {len(LARGE)}\r\n\r\n"
        with self.connect() as stream:
            stream.sendall(head.encode() + LARGE)
            time.sleep(self.rng.random())

    def act_answer_not_read(self):
        with self.connect() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 4)
            time.sleep(self.rng.random())

    def act_length_announced(self):
        """A call of gRPC, without a key, that announces 64 MiB and sends no more than that."""
        with self.connect(self.grpc_address) as stream:
            stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            path = b"/inference.GRPCInferenceService/ServerLive"
            literal = lambda name, value: b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
            head = b"".join(
                literal(*pair)
                for pair in [
                    (b":method", b"POST"),
                    (b":scheme", b"http"),
                    (b":path", path),
                    (b":authority", b"x"),
                    (b"content-type", b"application/grpc"),
                    (b"te", b"trailers"),
                ]
            )
            stream.sendall(struct.pack(">I", len(head))[1:] + bytes([1, 4, 0, 0, 0, 1]) + head)
            stream.sendall(bytes([0, 0, 5, 0, 0, 0, 0, 0, 1]) + b"\x00" + struct.pack(">I", 64 << 20))
            time.sleep(self.rng.random() / 2)

    def act_nonsense(self):
        with self.connect(self.rng.choice([self.address, self.grpc_address])) as stream:
            stream.sendall(self.rng.randbytes(self.rng.randint(1, 4096)))
