#!/usr/bin/env python3
"""Training steps of restain-train beside the same steps in PyTorch, in turns on the same threads.

    make bench-train ARGS="--threads 1 --turns 15 --only small"
    make bench-train ARGS="--device cuda"

Builds train_step.rs and needs torch, of the version that the trainer is linked with, and safetensors. Both sides get the same weights, tiles and draws, and
their losses are compared before a time is believed. The PyTorch side is what one would write today:
scaled_dot_product_attention, autocast for bf16, fused AdamW. Prints, for each, the median and the middle half of the
turns, and two ratios, ours ÷ PyTorch's, as medians over turns: by the clock, and by processor time, which says more on a
machine that others use. And the most memory that restain-train held, its computer's and not the device's. On a GPU the batches are
larger, and a step is timed until the device has done all of it. TFLOP/s count the encoder, three passes' worth for each tile through it.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--program", help="train_step.rs, built already")
parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--turns", type=int, default=15)
parser.add_argument("--only", default="", help="part of a case's name")
parser.add_argument("--json", help="a file for the figures")
parser.add_argument("--gradient-checkpointing", action="store_true", help="in restain-train only: its cost in time and gain in memory")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
# The side that waits must not spin on the cores of the side that computes.
os.environ["OMP_WAIT_POLICY"] = "passive"

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.set_num_threads(options.threads)
KIND = torch.device(options.device).type

# image, patch, embedding, depth, heads
SMALL, BASE = (96, 8, 384, 4, 6), (224, 16, 768, 12, 16)
# name: geometry, batch, recipe, mixes, precision
CASES = {
    "small, batch 16, cross 1 mix, f32": (SMALL, 16, "cross", 1, "f32"),
    "small, batch 16, cross 1 mix, bf16": (SMALL, 16, "cross", 1, "bf16"),
    "small, batch 16, published 4 mixes, f32": (SMALL, 16, "published", 4, "f32"),
    "small, batch 16, published 4 mixes, bf16": (SMALL, 16, "published", 4, "bf16"),
    "base, batch 4, cross 1 mix, f32": (BASE, 4, "cross", 1, "f32"),
    "base, batch 4, published 4 mixes, f32": (BASE, 4, "published", 4, "f32"),
}
if KIND != "cpu":
    CASES = {
        "base, batch 128, cross 1 mix, bf16": (BASE, 128, "cross", 1, "bf16"),
        "base, batch 64, published 4 mixes, bf16": (BASE, 64, "published", 4, "bf16"),
        "base, batch 64, cross 1 mix, f32": (BASE, 64, "cross", 1, "f32"),
    }


def positions(grid, embed):
    omega = 10000.0 ** (-torch.arange(embed // 4, dtype=torch.float64) / (embed // 4))
    y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    x, y = x.reshape(-1, 1) * omega, y.reshape(-1, 1) * omega
    table = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
    return torch.cat([torch.zeros(1, embed, dtype=torch.float64), table]).float()


def draw(geometry, batch, mixes):
    size, patch, embed, depth, _ = geometry
    patches = (size // patch) ** 2
    generator = torch.Generator().manual_seed(1)

    def matrix(*shape):
        bound = math.sqrt(6 / (shape[0] + math.prod(shape[1:])))
        return (torch.rand(*shape, generator=generator) * 2 - 1) * bound

    def norm(name):
        return {f"{name}.weight": torch.ones(embed), f"{name}.bias": torch.zeros(embed)}

    weights = {"encoder.cls_token": torch.randn(1, 1, embed, generator=generator) * 0.02}
    weights |= {"encoder.patch_embed.proj.weight": matrix(embed, 3, patch, patch), "encoder.patch_embed.proj.bias": torch.zeros(embed)}
    weights |= norm("encoder.norm")
    for i in range(depth):
        block = f"encoder.blocks.{i}."
        weights |= norm(block + "norm1") | norm(block + "norm2")
        for name, out, into in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            weights |= {f"{block}{name}.weight": matrix(out * embed, into * embed), f"{block}{name}.bias": torch.zeros(out * embed)}
    token = lambda n: torch.randint(1, patches + 1, (n,), generator=generator)
    tiles = torch.randn(batch, 3, size, size, generator=generator)
    drawn = {"tiles": tiles, "shifted": tiles.roll(1, 0) * 1.1 + 0.1, "other": torch.arange(batch).roll(1)}
    drawn |= {"shifted_token": token(batch), "own_token": token(batch)}
    drawn |= {"mix_sample": torch.randint(0, batch, (mixes,), generator=generator), "mix_token": token(mixes)}
    return weights, drawn


class Step:
    """The same step in PyTorch."""

    def __init__(self, geometry, recipe, precision, weights, drawn):
        self.geometry, self.recipe, self.precision = geometry, recipe, precision
        self.drawn = {name: value.to(options.device) for name, value in drawn.items()}
        # On the CPU too, as numbers: indexing by a tensor of a GPU would wait for it.
        self.mixes = list(zip(drawn["mix_sample"].tolist(), drawn["mix_token"].tolist()))
        self.w = {name.removeprefix("encoder."): value.to(options.device, copy=True).requires_grad_() for name, value in weights.items()}
        self.positions = positions(geometry[0] // geometry[1], geometry[2]).to(options.device)
        self.optimiser = torch.optim.AdamW(self.w.values(), lr=1e-3, weight_decay=0.05, fused=True)

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def norm(self, name, x):
        return F.layer_norm(x, (self.geometry[2],), self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def encode(self, tiles):
        _, patch, embed, depth, heads = self.geometry
        with torch.autocast(KIND, torch.bfloat16, enabled=self.precision == "bf16"):
            tokens = F.conv2d(tiles, self.w["patch_embed.proj.weight"], self.w["patch_embed.proj.bias"], stride=patch)
            tokens = tokens.flatten(2).transpose(1, 2)
            z = torch.cat([self.w["cls_token"].expand(len(tiles), -1, -1), tokens], 1) + self.positions
            for i in range(depth):
                block = f"blocks.{i}."
                qkv = self.linear(block + "attn.qkv", self.norm(block + "norm1", z))
                q, k, v = qkv.unflatten(-1, (3, heads, embed // heads)).permute(2, 0, 3, 1, 4).unbind(0)
                mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
                z = z + self.linear(block + "attn.proj", mixed)
                hidden = F.gelu(self.linear(block + "mlp.fc1", self.norm(block + "norm2", z)))
                z = z + self.linear(block + "mlp.fc2", hidden)
            return self.norm("norm", z).float()

    def synthesise(self, anatomy, characteristics):
        """[B, N+1, h]; characteristics [B, N+1, h], or [B, 1, h] for one style a tile."""
        size, patch, embed, _, _ = self.geometry
        grid, batch, rank = size // patch, len(anatomy), embed // 2 // 3 // patch
        left = anatomy[:, 1:].reshape(batch, grid * grid, 3, patch, rank)
        right = characteristics if characteristics.shape[1] == 1 else characteristics[:, 1:]
        right = right.reshape(batch, -1, 3, rank, patch)
        pixels = (left @ right).view(batch, grid, grid, 3, patch, patch)
        return pixels.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, size, size)

    def published(self, tiles, z):
        half, batch = self.geometry[2] // 2, len(tiles)
        za, zc = z[..., :half], z[..., half:]
        reconstruction = self.synthesise(za, zc)
        styles = [zc[s, t].view(1, 1, -1) for s, t in self.mixes]
        made = torch.cat([reconstruction] + [self.synthesise(za, style.expand(batch, 1, -1)) for style in styles])
        again = self.encode(made).unflatten(0, (-1, batch))
        loss = F.mse_loss(reconstruction, tiles) + F.mse_loss(again[0], z) * 2
        for style, latent in zip(styles, again[1:]):
            loss = loss + F.mse_loss(latent[..., :half], za) + F.mse_loss(latent[..., half:], style.expand_as(zc))
        return loss

    def cross(self, tiles, shifted):
        half, batch = self.geometry[2] // 2, len(tiles)
        z, zs = self.encode(torch.cat([tiles, shifted])).split(batch)
        loss, each = self.published(tiles, z), torch.arange(batch, device=tiles.device)
        (za, zc), (zas, zcs) = z.split(half, -1), zs.split(half, -1)
        there = self.synthesise(za, zcs[each, self.drawn["shifted_token"]].unsqueeze(1))
        back = self.synthesise(zas, zc[each, self.drawn["own_token"]].unsqueeze(1))
        loss = loss + F.mse_loss(there, shifted) + F.mse_loss(back, tiles)
        return loss + F.mse_loss(self.synthesise(za, zcs), shifted) + F.mse_loss(zas, za)

    def take(self):
        tiles = self.drawn["tiles"]
        loss = self.cross(tiles, self.drawn["shifted"]) if self.recipe == "cross" else self.published(tiles, self.encode(tiles))
        value = loss.item()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=False)
        if KIND != "cpu":
            torch.cuda.synchronize(options.device)
        return value


def processor_seconds(pid):
    """User and system time of all threads of a process."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_gb(pid):
    """The most memory that a process has held."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6


def timed(take, pid):
    """Seconds by the clock, processor seconds, and the loss."""
    before, started = processor_seconds(pid), time.perf_counter()
    loss = take()
    return time.perf_counter() - started, processor_seconds(pid) - before, loss


def flops(geometry, batch, recipe, mixes):
    """Of a step's encodings: tiles and their second stain, the reconstruction and each mix; backward is twice forward."""
    size, patch, embed, depth, _ = geometry
    patches = (size // patch) ** 2
    encoder = 2 * (depth * (patches + 1) * embed * (12 * embed + 2 * (patches + 1)) + patches * 3 * patch**2 * embed)
    return 3 * encoder * batch * ((2 if recipe == "cross" else 1) + 1 + mixes)


def spread(seconds):
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{middle:7.3f} s ({low:.3f}–{high:.3f})"


def built():
    """What cargo says that it has built."""
    command = "cargo bench --locked -p restain-train --bench step --no-run --message-format json"
    output = subprocess.run(command.split(), check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "train_step")


def measure(name, folder):
    geometry, batch, recipe, mixes, precision = CASES[name]
    weights, drawn = draw(geometry, batch, mixes)
    path = f"{folder}/step.safetensors"
    save_file(weights | drawn, path)
    theirs = Step(geometry, recipe, precision, weights, drawn)
    command = [program, path, ",".join(map(str, geometry)), recipe, precision, options.device, *["--gradient-checkpointing"] * options.gradient_checkpointing]
    ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def our_turn():
        print(file=ours.stdin, flush=True)
        line = ours.stdout.readline()
        assert line, f"restain-train's side ended with {ours.wait()}"
        return float(line)

    turns = []
    try:
        for turn in range(options.turns + 1):
            mine, other = timed(our_turn, ours.pid), timed(theirs.take, os.getpid())
            if turn == 0:  # Warms both up, and shows that they compute the same.
                tolerance = 1e-4 if precision == "f32" else 2e-2
                assert math.isclose(mine[2], other[2], rel_tol=tolerance), f"losses {mine[2]} and {other[2]}"
            else:
                turns.append((mine, other))
        peak = peak_gb(ours.pid)
    finally:
        ours.kill()
        ours.wait()
    clock, processor = (statistics.median(mine[kind] / other[kind] for mine, other in turns) for kind in (0, 1))
    print(f"{name:41} restain-train {spread([mine[0] for mine, _ in turns])}   PyTorch {spread([other[0] for _, other in turns])}   ", end="")
    seconds = [statistics.median(turn[side][0] for turn in turns) for side in (0, 1)]
    teraflops = flops(geometry, batch, recipe, mixes) / seconds[0] / 1e12
    print(f"ratio {clock:.2f}, of processor time {processor:.2f}   {teraflops:.2f} TFLOP/s   peak {peak:.1f} GB", flush=True)
    figures = {"case": name, "ours_s": seconds[0], "pytorch_s": seconds[1], "ratio": clock}
    return figures | {"tiles_per_second": batch / seconds[0], "tflops": teraflops}


program = options.program or built()
with tempfile.TemporaryDirectory() as folder:
    figures, failed = [], []
    for name in CASES:
        if options.only in name:
            # One that does not fit into a device's memory keeps no other from being measured.
            try:
                figures.append(measure(name, folder))
            except (AssertionError, OSError, RuntimeError, ValueError) as error:
                print(f"{name:41} failed: {str(error).strip().partition(chr(10))[0]}", flush=True)
                failed.append(name)
            if KIND != "cpu":
                torch.cuda.empty_cache()
if options.json:
    with open(options.json, "w") as file:
        json.dump(figures, file, indent=1)
sys.exit(f"failed: {'; '.join(failed)}" if failed else 0)
