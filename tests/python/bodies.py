"""Bodies for fuzzing that JSON Schema cannot describe: safetensors and pictures, whole and damaged, so that what is sent gets past the
first bytes that are looked at."""

import io
import json
import struct

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from served import SIDE

KEYS = [bytes(32), bytes(range(32))]


def picture(side, colour, form):
    """One picture, of one colour with a little structure."""
    pixels = np.full((side, side, 3), colour, np.uint8)
    pixels[::3] //= 2
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


sides = st.sampled_from([1, 7, 16, SIDE, SIDE, SIDE, 2 * SIDE])
colours = st.tuples(*[st.integers(0, 255)] * 3)
whole_pictures = st.builds(picture, sides, colours, st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF"]))


@st.composite
def damaged(draw, bodies):
    """A body with one thing wrong: cut off, something in it changed, or something behind it."""
    body = bytearray(draw(bodies))
    place = draw(st.integers(0, max(len(body) - 1, 0)))
    match draw(st.sampled_from(["cut", "flip", "insert", "append"])):
        case "cut":
            del body[place:]
        case "flip" if body:
            body[place] ^= draw(st.integers(1, 255))
        case "insert":
            body[place:place] = draw(st.binary(min_size=1, max_size=9))
        case _:
            body += draw(st.binary(min_size=1, max_size=9))
    return bytes(body)


pictures = st.one_of(whole_pictures, whole_pictures, damaged(whole_pictures), st.binary(max_size=64))

requests = st.fixed_dictionaries(
    {},
    optional={
        "variants": st.one_of(st.integers(1, 4), st.integers(-1, 2**64)),
        "seed": st.integers(0, 2**54),
        "strength": st.floats(-0.1, 1.1),
        "detail": st.sampled_from(["carry", "model", "none"]),
        "method": st.sampled_from(["vit", "color-match", "hed-jitter", "identity", "none"]),
        "timeout_ms": st.sampled_from([0, 60_000, 2**63]),
        "style": st.fixed_dictionaries(
            {},
            optional={
                "from": st.sampled_from(["bank", "batch", "reference", "own"]),
                "placement": st.sampled_from(["broadcast", "aligned"]),
                "spread": st.floats(-0.1, 3.1),
                "share": st.sampled_from(["tile", "request"]),
                "domains": st.lists(st.sampled_from(["north", "west", "nowhere"]), max_size=2),
                "ids": st.lists(st.sampled_from(["north/0", "north/99"]), max_size=2),
                "blend": st.lists(
                    st.fixed_dictionaries({"domain": st.just("north"), "weight": st.floats(allow_nan=False, allow_infinity=False)}), max_size=17
                ),
            },
        ),
    },
)
added = st.fixed_dictionaries(
    {"domain": st.one_of(st.sampled_from(["ours", "theirs", ".x"]), st.text(max_size=4))},
    optional={"styles": st.integers(0, 257)},
)


@st.composite
def whole_tensors(draw):
    """Tensors as a client would send them, the request in the metadata."""
    tensors = {}
    for name, chance in [("tiles", 4), ("references", 1), ("keys", 1)]:
        if draw(st.integers(0, 4)) >= chance:
            continue
        count = draw(st.integers(0, 3))
        if name == "keys":
            tensors[name] = np.frombuffer(b"".join(draw(st.lists(st.sampled_from(KEYS), min_size=count, max_size=count))), np.uint8).reshape(-1, 32)
        else:
            side = draw(sides)
            tensors[name] = np.full((count, side, side, 3), draw(st.integers(60, 240)), np.uint8)
    request = draw(st.one_of(requests, requests, added))
    return save(tensors, metadata={"request": json.dumps(request)})


@st.composite
def absurd_tensors(draw):
    """A head that says what no file could hold: sizes that overflow, ranges that overlap or end before they begin."""
    size = st.sampled_from([0, 1, 3, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64, -1])
    head = {
        name: {
            "dtype": draw(st.sampled_from(["U8", "F64", "BOOL", "F8_E4M3", "X"])),
            "shape": draw(st.lists(size, max_size=6)),
            "data_offsets": draw(st.lists(size, min_size=1, max_size=3)),
        }
        for name in draw(st.lists(st.sampled_from(["tiles", "keys", "references", "", "\0"]), max_size=3, unique=True))
    }
    if draw(st.booleans()):
        head["__metadata__"] = draw(st.sampled_from([{"request": "{}"}, {"request": "[" * 500}, {"request": 1}, None, "text", {}]))
    text = json.dumps(head).encode()
    said = draw(st.sampled_from([len(text), len(text), len(text) + 1, 0, 2**32, 2**63, 2**64 - 1]))
    return struct.pack("<Q", said) + text + bytes(draw(st.integers(0, 99)))


tensors = st.one_of(whole_tensors(), whole_tensors(), damaged(whole_tensors()), absurd_tensors())
