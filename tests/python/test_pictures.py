"""What the server sees in a picture, next to what Pillow and tifffile see in it: the rules of docs/pictures.md.

`identity` gives a tile back as it was decoded, so the answer is the decoded picture.
"""

import io

import numpy as np
import pytest
import requests
import tifffile
from PIL import Image
from served import tiles

SIDE = 64
# JPEG decoders differ in how they interpolate chroma, at edges of colour most.
JPEG_LEVELS = 14


def tissue(side=SIDE):
    """uint8 [side, side, 3] with areas, edges and a few levels of noise, as of a stained tile."""
    rows, columns = np.mgrid[:side, :side]
    picture = np.full((side, side, 3), (236, 230, 238), np.uint8)
    picture[(rows // 16 + columns // 16) % 2 == 0] = (196, 120, 180)
    picture[(rows - 30) ** 2 + (columns - 34) ** 2 < 150] = (90, 50, 130)
    return picture + tiles(1, side=side, seed=1)[0] % 6


def decoded(server, file):
    """The pixels, or the status and the sentence of a refusal."""
    answer = requests.post(f"{server.url}/v1/augment?method=identity", data=file, headers={"content-type": "image/tiff", "accept": "image/png"}, timeout=60)
    if answer.status_code != 200:
        return answer.status_code, answer.json()["detail"]
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def pillow(picture, form="TIFF", **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, form, **options)
    return file.getvalue()


def written(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def seen_by_pillow(file):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_what_pillow_writes_is_what_pillow_sees(server, mode, compression):
    file = pillow(Image.fromarray(tissue()).convert(mode), compression=compression)
    # Inks are multiplied out, to the nearest.
    np.testing.assert_allclose(decoded(server, file).astype(int), seen_by_pillow(file), atol=1 if mode == "CMYK" else 0)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 48)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_every_layout_is_what_tifffile_sees(server, big, byteorder, tile, planar):
    array = tissue(80)
    given = array if planar == "contig" else array.transpose(2, 0, 1)
    file = written(given, bigtiff=big, byteorder=byteorder, tile=tile, photometric="rgb", planarconfig=planar, compression="zlib", predictor=True)
    assert np.array_equal(decoded(server, file), array)


def test_planes_in_tiles_that_do_not_divide_them_are_refused(server):
    file = written(tissue(80).transpose(2, 0, 1), tile=(32, 48), photometric="rgb", planarconfig="separate")
    status, detail = decoded(server, file)
    assert status == 422 and "tiles of 32 rows" in detail and "interleaved" in detail


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("tile", [None, (32, 32), (128, 128)])
@pytest.mark.parametrize("big", [False, True])
def test_jpeg_in_ycbcr_as_of_whole_slides(server, subsampling, tile, big):
    options = {"tile": tile} if tile else {"rowsperstrip": 16}
    file = written(
        tissue(80),
        photometric="rgb",
        bigtiff=big,
        compression="jpeg",
        compressionargs={"level": 95, "outcolorspace": "ycbcr"},
        subsampling=subsampling,
        **options,
    )
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        page = opened.pages[0]
        assert (page.photometric.name, page.compression.name) == ("YCBCR", "JPEG")
        seen = page.asarray()
    found = decoded(server, file)
    assert found.shape == seen.shape and np.abs(found.astype(int) - seen).max() <= JPEG_LEVELS
    assert np.abs(found.astype(int) - seen_by_pillow(file)).max() <= JPEG_LEVELS


def test_jpeg_that_pillow_writes_with_its_tables_apart(server):
    for mode in ["RGB", "L"]:
        file = pillow(Image.fromarray(tissue()).convert(mode), compression="jpeg", quality=95)
        with tifffile.TiffFile(io.BytesIO(file)) as opened:
            assert "JPEGTables" in opened.pages[0].tags
        assert np.abs(decoded(server, file).astype(int) - seen_by_pillow(file)).max() <= JPEG_LEVELS


def test_jpeg_in_rgb_is_not_converted(server):
    file = written(tissue(), photometric="rgb", compression="jpeg", compressionargs={"level": 95, "outcolorspace": "rgb"}, subsampling=(1, 1))
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        assert opened.pages[0].photometric.name == "RGB"
        seen = opened.pages[0].asarray()
    assert np.abs(decoded(server, file).astype(int) - seen).max() <= JPEG_LEVELS


def test_sixteen_bits_are_the_whole_range(server):
    deep = tissue().astype(np.uint16) * 257 + 100
    for array in [deep, deep[..., 0]]:
        file = written(array, photometric="rgb" if array.ndim == 3 else "minisblack")
        expected = np.round(array / 257).astype(np.uint8)
        assert np.array_equal(decoded(server, file), expected if array.ndim == 3 else expected[..., None].repeat(3, -1))


def test_floating_point_is_zero_to_one_or_refused(server):
    unit = tissue().astype(np.float32) / 255
    assert np.array_equal(decoded(server, written(unit, photometric="rgb")), tissue())
    for wrong in [unit * 255, unit - 0.5, np.where(unit > 0.5, np.nan, unit).astype(np.float32)]:
        status, detail = decoded(server, written(wrong, photometric="rgb"))
        assert status == 422 and "floating point" in detail and "between 0 and 1" in detail


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("uint32", "integers of 32 bits"),
        ("int16", "signed integers of 16 bits"),
        ("int8", "signed"),
        ("float64", "floating point of 64"),
        ("float16", "of 16 bits"),
    ],
)
def test_other_samples_are_refused_in_words(server, dtype, words):
    for array in [tissue(), tissue()[..., 0]]:
        file = written(array.astype(dtype), photometric="rgb" if array.ndim == 3 else "minisblack")
        status, detail = decoded(server, file)
        assert status == 422 and words in detail, detail


def test_planes_as_pictures_of_their_own_are_refused(server):
    planes = tissue().transpose(2, 0, 1)
    for options in [{"ome": True, "metadata": {"axes": "CYX"}}, {"imagej": True}, {}]:
        file = written(planes, photometric="minisblack", **options)
        status, detail = decoded(server, file)
        assert status == 422 and "3 pictures" in detail and "RGB" in detail, detail
    # Of one directory, whose description counts three: ImageJ's own form of a large stack.
    status, detail = decoded(server, written(planes[0], description="ImageJ=1.54f\nimages=3\nslices=3\n", metadata=None))
    assert status == 422 and "3 pictures" in detail
    for options in [{"ome": True, "metadata": {"axes": "YXS"}}, {"imagej": True}]:
        assert np.array_equal(decoded(server, written(tissue(), photometric="rgb", **options)), tissue())


def test_smaller_copies_beside_a_picture_are_not_read(server):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(tissue(), photometric="rgb")
        writer.write(tissue()[::2, ::2], photometric="rgb", subfiletype=1)
    assert np.array_equal(decoded(server, file.getvalue()), tissue())


@pytest.mark.parametrize(("compression", "words"), [("jpeg2000", "JPEG 2000"), ("zstd", "Zstandard"), ("webp", "WebP"), ("lzma", "LZMA")])
def test_other_compressions_are_refused_by_name(server, compression, words):
    status, detail = decoded(server, written(tissue(), photometric="rgb", compression=compression))
    assert status == 422 and words in detail, detail


def test_grey_of_three_samples_and_lab_are_refused(server):
    for samples in [2, 3]:
        file = written(tissue()[..., :samples], photometric="minisblack", planarconfig="contig")
        status, detail = decoded(server, file)
        assert status == 422 and f"{samples} samples" in detail, detail
    grey = np.dstack([tissue()[..., 0], np.full((SIDE, SIDE), 51, np.uint8)])
    found = decoded(server, written(grey, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]))
    assert np.abs(found[..., 0] - (grey[..., 0] * 0.2 + 204)).max() <= 0.5
    status, detail = decoded(server, pillow(Image.fromarray(tissue()).convert("LAB")))
    assert status == 422 and "RGB" in detail, detail


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_white(server, form):
    picture = np.dstack([tissue(), np.full((SIDE, SIDE), 255, np.uint8)])
    picture[:20, :, 3], picture[20:40, :, 3] = 0, 51
    file = pillow(picture, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    over_white = Image.new("RGBA", (SIDE, SIDE), "white")
    over_white.alpha_composite(Image.open(io.BytesIO(file)).convert("RGBA"))
    found = decoded(server, file)
    assert (found[:20] == 255).all() and np.abs(found.astype(int) - np.asarray(over_white.convert("RGB"))).max() <= 1


def test_what_stands_behind_the_end_of_a_jpeg_is_not_looked_at(server):
    file = pillow(tissue(), "JPEG", quality=95)
    seen = seen_by_pillow(file).astype(int)
    for behind in [b"SEFHk\0\0\0", b"\xff\xda\0\x0c\x03", file, file[: len(file) // 2]]:
        found = decoded(server, file + behind)
        assert np.abs(found.astype(int) - seen).max() <= JPEG_LEVELS
    status, detail = decoded(server, file[: len(file) // 2])
    assert status == 422 and "cut off" in detail
