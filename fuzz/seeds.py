"""Writes the first files of each fuzzer's corpus: one or two valid inputs of every shape. What fuzzing finds is added beside them.

    .deps/python/bin/python fuzz/seeds.py
"""

import base64
import hashlib
import io
import json
import struct
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
from grpc_tools import protoc
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parent
TINY = ROOT / "tests/fixtures/bundle-tiny"
REQUEST = {
    "variants": 2,
    "seed": 7,
    "strength": 0.5,
    "style": {"from": "bank", "domains": ["north"], "exclude_domains": ["west"], "placement": "broadcast", "share": "tile"},
    "output": {"format": "jpeg", "quality": 90, "sheet": False},
    "priority": "bulk",
    "detail": "model",
    "timeout_ms": 1000,
}
BLEND = {"style": {"blend": [{"id": "north/0", "weight": 0.5}, {"domain": "south", "weight": 1}]}}


def write(target: str, **files: bytes) -> None:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"seed-{name}").write_bytes(content)


def picture(mode: str, kind: str, **options: object) -> bytes:
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(6, 8, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def form(*parts: tuple[str, str, bytes], boundary: str = "X") -> bytes:
    body = f"multipart/form-data; boundary={boundary}\n".encode()
    for name, more, content in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def oip(head: dict[str, object], binary: bytes | None = None) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<H", 0xFFFF if binary is None else len(text)) + text + (binary or b"")


def messages(folder: str) -> None:
    sys.path.insert(0, folder)
    for proto in ("restain/v1/restain.proto", "inference/grpc_service.proto"):
        if protoc.main(["", f"-I{ROOT / 'proto'}", f"--python_out={folder}", str(ROOT / "proto" / proto)]):
            sys.exit(f"{proto} cannot be compiled")
    pb = import_module("restain.v1.restain_pb2")
    tiles = pb.Tiles(images=[picture("L", "PNG")], pixels=pb.Pixels(height=1, width=2, data=bytes(12)), keys=[bytes(32)])
    style = pb.Style(domains=["north"], blend=[pb.BlendPart(id="north/0", weight=0.5), pb.BlendPart(domain="south", weight=1)])
    augment = pb.AugmentRequest(tiles=tiles, references=pb.Tiles(images=[b"x"]), model="tiny/1", variants=2, seed=7, style=style, strength=0.5)
    encode = pb.EncodeRequest(tiles=tiles, model="tiny", priority=2, timeout_ms=5)
    write("grpc", augment=b"\0" + augment.SerializeToString(), encode=b"\1" + encode.SerializeToString())
    pb = import_module("inference.grpc_service_pb2")
    request = pb.ModelInferRequest(model_name="tiny", id="7", raw_input_contents=[bytes(6), bytes(32)])
    request.inputs.add(name="TILES", datatype="UINT8", shape=[1, 1, 2, 3])
    request.inputs.add(name="KEYS", datatype="UINT8", shape=[1, 32])
    request.outputs.add(name="VARIANTS")
    request.parameters["variants"].int64_param = 2
    request.parameters["strength"].double_param = 0.5
    request.parameters["domains"].string_param = "north,south"
    inline = pb.ModelInferRequest(model_name="tiny", model_version="1")
    inline.inputs.add(name="TILES", datatype="BYTES", shape=[1]).contents.bytes_contents.append(picture("RGB", "PNG"))
    write("oip_grpc", raw=b"\0" + request.SerializeToString(), inline=b"\1" + inline.SerializeToString())


def pixels() -> None:
    """The pictures of the corpus `image`, each under a format and a quality of the answer."""
    names = ("png", "grey", "jpeg", "progressive", "webp", "lossless", "tiff", "deflate")
    for number, name in enumerate(names):
        file = (HERE / "corpus" / "image" / f"seed-{name}").read_bytes()
        write("pixels", **{name: bytes([number % 3, 100 if number % 2 else 80]) + file})


def main() -> None:
    write("image", png=picture("RGB", "PNG"), palette=picture("P", "PNG"), grey=picture("L", "PNG"), alpha=picture("RGBA", "PNG"))
    write("image", jpeg=picture("RGB", "JPEG"), progressive=picture("RGB", "JPEG", progressive=True), cmyk=picture("CMYK", "JPEG"))
    write("image", webp=picture("RGB", "WEBP"), lossless=picture("RGBA", "WEBP", lossless=True))
    write("image", tiff=picture("RGB", "TIFF"), lzw=picture("RGB", "TIFF", compression="tiff_lzw"))
    write("image", deflate=picture("RGB", "TIFF", compression="tiff_adobe_deflate"), packbits=picture("L", "TIFF", compression="packbits"))
    pixels()

    png, key = picture("RGB", "PNG"), "ab" * 32
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    bodies = {"whole": {"request": REQUEST, "tiles": [url[22:], url], "keys": [key], "references": [url[22:]]}, "blend": {"request": BLEND, "keys": [key]}}
    write("json", **{name: json.dumps(body).encode() for name, body in bodies.items()})
    write("query", all=b"model=tiny/1&variants=2&seed=7&method=vit&from=bank&domains=a,b&strength=0.5&detail=model&format=png&quality=9")
    write("query", sheet=b"sheet=true", escaped=b"ids=a%2F1,b%2f2&placement=aligned&share=request&priority=bulk&timeout_ms=5")

    request = json.dumps(REQUEST)
    tile = ("tile", '; filename="a.png"', png)
    write("form", form=form(("request", "", request.encode()), tile, ("key", "", key.encode()), ("reference", "", png)))
    write("form", json=b"application/json; charset=utf-8\n{}", quoted=form(tile, boundary="a-b").replace(b"=a-b", b'="a-b"', 1))
    add = [(name, "", text) for name, text in (("domain", b"ours"), ("model", b"tiny"), ("styles", b"4"))]
    write("add_form", form=form(*add, tile))

    pixels = ("U8", [2, 1, 2, 3], bytes(range(12)))
    tensors = {"tiles": pixels, "keys": ("U8", [1, 32], bytes(32)), "references": ("U8", [1, 1, 1, 3], bytes(3))}
    write("safetensors", whole=safetensors(tensors, {"request": request}), plain=safetensors({"tiles": pixels}))
    shapes = ("I64", [2, 2], struct.pack("<4q", 1, 2, 2, 1))
    write("safetensors", packed=safetensors({"tiles": ("U8", [12], bytes(12)), "shapes": shapes}))
    write("safetensors", add=safetensors({"tiles": pixels}, {"request": '{"domain":"ours","styles":2}'}))

    raw = {"name": "TILES", "datatype": "UINT8", "shape": [1, 1, 2, 3], "parameters": {"binary_data_size": 6}}
    texts = {"name": "REFERENCES", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}
    wanted = [{"name": "VARIANTS", "parameters": {"binary_data": True}}, {"name": "STYLE_IDS"}]
    parameters = {"binary_data_output": True, "variants": 2, "strength": 0.5, "domains": "north", "blend": json.dumps(BLEND["style"]["blend"])}
    both = {"id": "7", "inputs": [raw, texts], "outputs": wanted, "parameters": parameters}
    write("oip", binary=oip(both, bytes(6) + struct.pack("<I", 3) + b"abc"))
    flat = {"name": "TILES", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [[[[1, 2, 3]]]]}
    write("oip", json=oip({"inputs": [flat, {"name": "KEYS", "datatype": "BYTES", "shape": [1], "data": [key]}]}))

    manifest, bank = json.loads((TINY / "bundle.json").read_text()), (TINY / "styles.safetensors").read_bytes()
    manifest["files"] = {"encoder.onnx": hashlib.sha256().hexdigest(), "styles.safetensors": "0" * 64}
    text = json.dumps(manifest).encode()
    write("bundle", tiny=struct.pack("<I", len(text)) + text + bank, bare=struct.pack("<I", 2) + b"{}")
    write("styles", tiny=bank)
    four = struct.pack("<4f", *range(4))
    write("weights", small=safetensors({"encoder.pos_embed": ("F32", [1, 2, 2], four), "encoder.norm.weight": ("F32", [4], four)}))
    names = json.loads((TINY / "weights.safetensors").read_bytes()[8:].split(b"\0")[0].split(b"}}")[0] + b"}}")
    empty = {name: (entry["dtype"], [0, *entry["shape"][1:]], b"") for name, entry in names.items() if name != "__metadata__"}
    write("weights", names=safetensors(empty))
    for number, name in enumerate(["narrow", "wide", "pixels"]):
        head = struct.pack("<IIfIQ", 2, 1, 30.0, number, 4)
        values = struct.pack("<6h", *range(6)) if name == "wide" else bytes(range(6))
        write("cache_entry", **{name: bytes(64) + head + struct.pack("<4e", *range(4)) + values})
    with tempfile.TemporaryDirectory() as folder:
        messages(folder)


main()
