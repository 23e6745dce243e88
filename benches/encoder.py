#!/usr/bin/env python3
"""The encoder in ONNX Runtime beside the same encoder in PyTorch, in turns on one device. `benches/gpu.sh` runs it.

    benches/encoder.py --program PATH --bundle runs/models/base/1 --device cuda:0 --precision fp16

PATH is benches/encoder.rs, built. Both sides take bytes and give latents of f16, from and to pinned memory, with as many batches on
their way at once; the PyTorch side is what one would write today, scaled_dot_product_attention and torch.compile. Latents
are compared before a time is believed. Prints a table by size of batch, what PyTorch is compared with, and the profile.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True, help="benches/encoder.rs, built")
parser.add_argument("--bundle", required=True, type=pathlib.Path)
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--precision", default="fp16", choices=["fp16", "fp32"])
parser.add_argument("--batches", default="1,8,16,32,64,128,256")
parser.add_argument("--seconds", type=float, default=2, help="of each turn")
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--compile", default="max-autotune-no-cudagraphs", help="a mode of torch.compile, or none")
parser.add_argument("--eager", action="store_true", help="where torch.compile fails, compare with PyTorch without it, and say so")
parser.add_argument("--compare", default="fp32", help="precisions whose reconstructions are compared, with commas")
parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
options = parser.parse_args()
CUDA = options.device != "cpu"
DTYPE = torch.float16 if options.precision == "fp16" else torch.float32
BATCHES = [int(batch) for batch in options.batches.split(",")]
# A graph for each size of batch; by itself torch.compile gives up, silently, after eight.
torch._dynamo.config.recompile_limit = 64
torch._dynamo.config.fail_on_recompile_limit_hit = True


class Ours:
    """benches/encoder.rs, asked line by line."""

    def __init__(self):
        command = [options.program, str(options.bundle), options.device, options.precision]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.answer()


class Encoder(torch.nn.Module):
    """u8 [B, H, W, 3] → latents [B, 2, N, h]."""

    def __init__(self, manifest, weights):
        super().__init__()
        geometry = manifest["geometry"]
        self.patch, self.embed, self.depth = geometry["patch_size"], geometry["embed_dim"], geometry["depth"]
        self.grid, self.heads = geometry["image_size"] // self.patch, geometry["num_heads"]
        for name, value in weights.items():
            self.register_buffer(name.removeprefix("encoder.").replace(".", "_"), value.to(DTYPE))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(manifest["normalisation"][name]).view(3, 1, 1, 1, 1))

    def get(self, name):
        return getattr(self, name.replace(".", "_"))

    def linear(self, name, x):
        return F.linear(x, self.get(name + ".weight").flatten(1), self.get(name + ".bias"))

    def norm(self, name, x):
        return F.layer_norm(x, (self.embed,), self.get(name + ".weight"), self.get(name + ".bias"), 1e-6)

    def forward(self, tiles):
        batch, grid, patch = len(tiles), self.grid, self.patch
        cut = tiles.view(batch, grid, patch, grid, patch, 3).permute(0, 5, 1, 2, 3, 4)
        values = ((cut.float() / 255 - self.mean) / self.std).to(DTYPE)
        patches = values.permute(0, 2, 4, 1, 3, 5).reshape(batch, grid * grid, -1)
        tokens = self.linear("patch_embed.proj", patches) + self.positions
        z = torch.cat([self.get("cls_token").expand(batch, -1, -1), tokens], 1)
        for i in range(self.depth):
            block = f"blocks.{i}."
            qkv = self.linear(block + "attn.qkv", self.norm(block + "norm1", z))
            q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            z = z + self.linear(block + "attn.proj", F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            z = z + self.linear(block + "mlp.fc2", F.gelu(self.linear(block + "mlp.fc1", self.norm(block + "norm2", z))))
        z = self.norm("norm", z)[:, 1:]
        return z.unflatten(-1, (2, -1)).transpose(1, 2).to(torch.float16).contiguous()


class Theirs:
    def __init__(self, manifest, lanes):
        weights = load_file(options.bundle / "weights.safetensors")
        # Positions lie beside the weights, CLS's row of zeros in front.
        positions = next(name for name in weights if "pos" in name)
        patches = (manifest["geometry"]["image_size"] // manifest["geometry"]["patch_size"]) ** 2
        table = weights.pop(positions).view(1, patches + 1, -1)[:, 1:]
        model = Encoder(manifest, weights | {"encoder.positions": table}).to(options.device).eval()
        self.plain, self.mode = model, options.compile
        self.model = model if options.compile == "none" else torch.compile(model, mode=options.compile, dynamic=False)
        self.lanes, self.side = lanes, manifest["geometry"]["image_size"]
        self.latent = (2, patches, manifest["geometry"]["embed_dim"] // 2)
        self.streams = [torch.cuda.Stream(options.device) for _ in range(lanes)] if CUDA else [None]

    def encode(self, tiles):
        try:
            return self.once(tiles)
        except Exception as error:
            # What it compiles with, a C compiler for one, is not on every machine that serves.
            if self.model is self.plain or not options.eager:
                raise
            print(f"torch.compile failed, PyTorch is without it: {str(error).strip().splitlines()[0]}", flush=True)
            self.model, self.mode = self.plain, "none: it failed"
            return self.once(tiles)

    @torch.inference_mode()
    def once(self, tiles):
        return self.model(torch.from_numpy(tiles).to(options.device)).cpu().numpy()

    @torch.inference_mode()
    def run(self, batch, seconds):
        """Tiles a second."""
        host = [torch.randint(0, 255, (batch, self.side, self.side, 3), dtype=torch.uint8) for _ in self.streams]
        back = [torch.empty((batch, *self.latent), dtype=torch.float16) for _ in self.streams]
        if CUDA:
            host, back = [t.pin_memory() for t in host], [t.pin_memory() for t in back]
        for _ in range(3):
            self.model(host[0].to(options.device))
        self.wait()
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            lane = done % len(self.streams)
            if CUDA:
                self.streams[lane].synchronize()
            with torch.cuda.stream(self.streams[lane]):
                back[lane].copy_(self.model(host[lane].to(options.device, non_blocking=True)), non_blocking=True)
            done += 1
        self.wait()
        return done * batch / (time.perf_counter() - started)

    def wait(self):
        if CUDA:
            torch.cuda.synchronize(options.device)


def flops(geometry):
    patches, embed = (geometry["image_size"] // geometry["patch_size"]) ** 2, geometry["embed_dim"]
    tokens, hidden = patches + 1, geometry["mlp_ratio"] * embed
    block = tokens * embed * (4 * embed + 2 * tokens + 2 * hidden)
    return 2 * (geometry["depth"] * block + patches * 3 * geometry["patch_size"] ** 2 * embed)


@torch.inference_mode()
def products(geometry, batch, repeats=10):
    """Milliseconds of the encoder's linear layers alone, as products of their sizes: what no encoder can be faster than."""
    rows, embed = batch * ((geometry["image_size"] // geometry["patch_size"]) ** 2 + 1), geometry["embed_dim"]
    hidden = round(geometry["mlp_ratio"] * embed)
    sizes = [(embed, 3 * embed), (embed, embed), (embed, hidden), (hidden, embed)]
    pairs = [(torch.randn(rows, a, device=options.device, dtype=DTYPE), torch.randn(a, b, device=options.device, dtype=DTYPE)) for a, b in sizes]
    for repeat in range(repeats + 1):
        if repeat == 1:  # The first has picked kernels.
            theirs.wait()
            started = time.perf_counter()
        for a, b in pairs:
            a @ b
    theirs.wait()
    return (time.perf_counter() - started) / repeats * geometry["depth"] * 1e3


def agree(ours, theirs, side):
    """The largest difference of latents, relative to the largest latent."""
    # A size that is compiled anyway.
    count = min((batch for batch in BATCHES if batch >= 4), default=max(BATCHES))
    rows = np.arange(count * side * side * 3, dtype=np.uint32)
    tiles = ((np.sin(rows / 97) * 80 + 128).astype(np.uint8) ^ (rows % 5).astype(np.uint8)).reshape(count, side, side, 3)
    with tempfile.TemporaryDirectory() as folder:
        tiles.tofile(f"{folder}/tiles")
        ours.ask("encode", f"{folder}/tiles", f"{folder}/latents")
        mine = np.fromfile(f"{folder}/latents", np.float16).astype(np.float32)
    other = theirs.encode(tiles).astype(np.float32).reshape(-1)
    return float(np.abs(mine - other).max() / np.abs(other).max())


manifest = json.loads((options.bundle / "bundle.json").read_text())
ours = Ours()
print(json.dumps(ours.opened))
theirs = Theirs(manifest, ours.opened["lanes"])
apart = agree(ours, theirs, theirs.side)
assert apart < (2e-2 if options.precision == "fp16" else 2e-3), f"latents differ by {apart}"
print(f"latents agree within {apart:.1e}")
per_tile, rows = flops(manifest["geometry"]), []
print("| batch | tiles/s | TFLOP/s | ms, one alone | PyTorch tiles/s | ratio |\n|---|---|---|---|---|---|")
for batch in BATCHES:
    turns = [(ours.ask("run", batch, options.seconds), theirs.run(batch, options.seconds)) for _ in range(options.turns)]
    rate, alone = (statistics.median(mine[key] for mine, _ in turns) for key in ("tiles_per_second", "batch_ms"))
    other, ratio = statistics.median(o for _, o in turns), statistics.median(m["tiles_per_second"] / o for m, o in turns)
    rows.append({"batch": batch, "tiles_per_second": rate, "tflops": rate * per_tile / 1e12, "alone_ms": alone, "pytorch": other, "ratio": ratio})
    print(f"| {batch} | {rate:,.1f} | {rate * per_tile / 1e12:.2f} | {alone:.2f} | {other:,.1f} | {ratio:.2f} |", flush=True)
best = max(rows, key=lambda row: row["tiles_per_second"])
floor_ms, whole_ms = products(manifest["geometry"], best["batch"]), best["batch"] / best["tiles_per_second"] * 1e3
print(f"\nat batch {best['batch']}: {whole_ms:.2f} ms a batch, of which its linear layers' products alone take {floor_ms:.2f} ms in PyTorch")
profile = ours.ask("profile", best["batch"])["operators"]
print("by operator, on a GPU the time of launching: " + ", ".join(f"{of['operator']} {of['share']:.0%} ({of['provider']})" for of in profile[:8]))
compared = {precision: ours.ask("compare", precision)["psnr_db"] for precision in options.compare.split(",") if precision}
if CUDA and options.compare:
    compared["fp32 on the CPU"] = ours.ask("compare", "fp32", "cpu")["psnr_db"]
for precision, decibel in compared.items():
    print(f"{options.precision} reconstructs at {decibel if decibel is not None else math.inf:.1f} dB of {precision}")
if options.json:
    figures = {"opened": ours.opened, "versions": {"torch": torch.__version__}, "compile": theirs.mode, "latents_apart": apart}
    options.json.write_text(json.dumps(figures | {"rows": rows, "best": best, "products_ms": floor_ms, "profile": profile, "psnr_db": compared}, indent=1))
