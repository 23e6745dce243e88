"""The client among numpy's numbers, proxies, login pages, secrets in files, and pictures of other kinds."""

import http.client
import http.server
import io
import pickle
import threading
import urllib.request
from contextlib import closing

import numpy as np
import pytest
from PIL import Image
from served import SIDE, tiles

import restain
from restain import Client, Part, Style


@pytest.fixture
def proxy(server):
    """A proxy before the real server, which treats a request first as `of(handler, body)` says; None lets it pass."""
    running = []

    def start(of):
        class Proxy(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_DELETE(self):
                self.do_POST()

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = of(self, body) or self.forwarded(body)
                self.send_response(answer[0])
                for name, value in {"Content-Length": str(len(answer[2])), **answer[1]}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer[2])

            def forwarded(self, body):
                own = ("host", "connection")
                headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
                with closing(http.client.HTTPConnection(server.http)) as connection:
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, {"Content-Type": answer.getheader("Content-Type", "")}, answer.read()

        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        running.append((listening, threading.Thread(target=listening.serve_forever)))
        running[-1][1].start()
        return f"http://127.0.0.1:{listening.server_port}"

    yield start
    for listening, thread in running:
        listening.shutdown()
        thread.join()
        listening.server_close()


PAGE = b"<html><body><h1>Sign in</h1></body></html>"


def test_numbers_of_numpy_and_torch_are_numbers(client):
    import torch

    several = tiles(2, seed=1)
    plain = client.augment(several, seed=7, variants=2, strength=0.5, timeout=30)
    numbers = [(np.int64, np.float32), (np.uint16, np.float64), (np.array, np.array), (torch.tensor, torch.tensor)]
    for whole, real in numbers:
        made = client.augment(several, seed=whole(7), variants=whole(2), strength=real(0.5), timeout=real(30))
        assert np.array_equal(made.variants, plain.variants)
        assert type(made.seed) is int
    style = Style(blend=[Part(np.float32(1), id=np.str_("north/0")), Part(np.int64(3), domain="west")])
    assert client.augment(several, seed=np.random.default_rng(0).integers(1 << 53), style=style).variants.shape[1] == 1
    names = Style(domains=np.array(["north", "west"]))
    drawn = client.augment(several, seed=1, style=names)
    assert np.array_equal(
        drawn.variants, client.augment(several, seed=1, style=Style(domains=["north", "west"])).variants
    )
    assert restain.epoch_seed(np.int64(7), np.int32(1)) == restain.epoch_seed(7, 1)
    for wrong in (7.5, "7", np.float64(7)):
        with pytest.raises(TypeError):
            client.augment(several, seed=wrong)


def test_styles_are_added_with_numbers_of_numpy(serve):
    with Client(serve().url) as client:
        assert len(client.add_styles("ours", tiles(8, seed=17), styles=np.int64(2)).styles) == 2


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_proxys_limit_halves_the_request(proxy, sent, kind):
    limit = 20_000
    page = PAGE if kind == "text/html" else b'{"message": "Request Too Long"}'
    url = proxy(lambda _, body: (413, {"Content-Type": kind}, page) if len(body) > limit else None)
    several = tiles(30, seed=33 if kind == "text/html" else 34)
    with Client(url) as client:
        made = client.augment(several, seed=1)
        again = client.augment(several, seed=1)
        encodings = client.encode(several)
        assert len(made.timings) > 4
        assert np.array_equal(made.variants, again.variants)
        assert list(encodings.keys) == [restain.tile_key(tile).hex() for tile in several]
        # The limit is remembered.
        assert max(sent.sizes[-6:]) <= limit
        with pytest.raises(restain.TooLarge, match="413"):
            client.augment(tiles(30, seed=32), style=Style(source="batch"))


async def test_the_asynchronous_client_halves_too(proxy):
    url = proxy(lambda _, body: (413, {"Content-Type": "text/html"}, PAGE) if len(body) > 20_000 else None)
    async with restain.AsyncClient(url) as client:
        assert (await client.augment(tiles(30, seed=31), seed=1)).variants.shape == (30, 1, SIDE, SIDE, 3)


def redirected(*_):
    return 302, {"Location": "https://login.example/?next=/v1"}, b""


def signed_out(*_):
    return 200, {"Content-Type": "text/html; charset=utf-8"}, PAGE


def nonsense(*_):
    return 200, {"Content-Type": "application/vnd.restain.safetensors"}, b"\x05\0\0\0\0\0\0\0{]]]}"


@pytest.mark.parametrize("of", [redirected, signed_out, nonsense])
def test_a_login_page_is_the_servers_fault_and_originals_stand_in(proxy, of):
    url, several = proxy(of), tiles(3, seed=3)
    with Client(url) as client:
        calls = [lambda: client.augment(several), lambda: client.encode(several), client.style_bank]
        calls += [] if of is nonsense else [client.styles, client.models, lambda: client.add_styles("ours", several)]
        for call in calls:
            with pytest.raises(restain.Intercepted) as raised:
                call()
            error = pickle.loads(pickle.dumps(raised.value))
            assert isinstance(error, restain.ServerError)
            assert error.location == ("https://login.example/?next=/v1" if of is redirected else None)
            assert error.location is None or error.location in str(error)
        assert of is nonsense or not client.ready()
    with Client(url, on_error="original") as client, pytest.warns(RuntimeWarning, match="originals stand in"):
        answer = client.augment(several, variants=2)
    assert answer.failed.all()
    assert np.array_equal(answer.variants, np.repeat(several[:, None], 2, axis=1))


def test_a_page_for_a_removal_is_no_success(proxy):
    with Client(proxy(signed_out)) as client, pytest.raises(restain.Intercepted, match="Sign in"):
        client.remove_styles("ours")


def test_an_address_may_lack_its_scheme(server):
    port = server.http.rpartition(":")[2]
    several = tiles(2, seed=4)
    for url in (f"localhost:{port}", f"127.0.0.1:{port}/", f" {server.url}\n", [f"localhost:{port}", server.url]):
        with Client(url) as client:
            assert client.augment(several, seed=1).variants.shape == (2, 1, SIDE, SIDE, 3)


@pytest.mark.parametrize("url", ["", "ftp://here:1", "http://", "grpc://127.0.0.1:8081", "http://a:b:c", "https:/here"])
def test_what_is_no_address_is_refused_in_words(url):
    with pytest.raises(ValueError, match=r"is not the address of a server: use http://HOST:PORT"):
        Client(url)


def test_a_password_in_an_address_is_not_shown():
    with Client("http://user:hidden@127.0.0.1:9", timeout=0.2) as client:
        with pytest.raises(restain.Unavailable) as raised:
            client.models()
        assert "hidden" not in str(raised.value)
    with pytest.raises(ValueError) as refused:
        Client("ftp://user:hidden@here")
    assert "hidden" not in str(refused.value)


def test_a_keys_line_end_is_removed_and_no_key_is_shown(server, monkeypatch):
    with Client(server.url, key="rs_secret\r\n") as client:
        assert client.headers["Authorization"] == "Bearer rs_secret"
        assert client.models()
    monkeypatch.setenv("RESTAIN_KEY", "rs_environment\n")
    assert Client(server.url).headers["Authorization"] == "Bearer rs_environment"
    monkeypatch.delenv("RESTAIN_KEY")
    assert "Authorization" not in Client(server.url, key=" \n").headers
    wrong = [{"key": "rs_sec\nret"}, {"key": "rs_sécret"}, {"headers": {"Authorization": "Bearer rs_sec\nret"}}]
    for options in (*wrong, {"headers": {"x-api-key": "rs_secret\n"}}, {"headers": {"x-api-key": b"rs_secret"}}):
        with pytest.raises(ValueError, match="printable ASCII") as refused:
            Client(server.url, **options)
        assert "ret" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None


def png(image):
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def by_the_server(server, image):
    """What the server makes of the same picture as a file."""
    url = f"{server.url}/v1/augment?method=identity"
    request = urllib.request.Request(url, png(image), {"Content-Type": "image/png", "Accept": "image/png"})
    with urllib.request.urlopen(request) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))


def grey(dtype, low=0, high=65535):
    return np.linspace(low, high, SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype)


def pictures():
    colour = tiles(1, seed=5)[0]
    return {
        "I;16": Image.fromarray(grey(np.uint16)),
        "L": Image.fromarray(grey(np.uint8, high=255)),
        "1": Image.fromarray(grey(np.uint8, high=255)).convert("1"),
        "P": Image.fromarray(colour).quantize(64),
        "RGB": Image.fromarray(colour),
    }


@pytest.mark.parametrize("mode", pictures())
def test_a_pil_image_is_the_servers_picture(client, server, mode):
    from restain.torch import RestainCollate, RestainTransform

    image = pictures()[mode]
    assert image.mode == mode
    wanted = by_the_server(server, image)
    assert np.array_equal(client.augment([image], method="identity").variants[0, 0], wanted)
    assert np.array_equal(np.asarray(RestainTransform(client, method="identity")(image)), wanted)
    batch = RestainCollate(client, method="identity")([image])
    assert np.array_equal(batch[1].permute(1, 2, 0).numpy(), wanted)


def test_16_bit_images_of_the_other_byte_order_are_the_same(client):
    little = Image.fromarray(grey(np.uint16))
    big = Image.frombytes("I;16B", little.size, grey(np.uint16).astype(">u2").tobytes())
    made = [client.augment([image], method="identity").variants for image in (little, big)]
    assert np.array_equal(*made)
    assert abs(made[0].mean() - grey(np.uint16).mean() / 257) < 0.5


def test_transparency_lies_on_white(client):
    colour = tiles(1, seed=6)[0]
    alpha = np.repeat(np.array([0, 128, 255, 255], np.uint8), SIDE * SIDE // 4).reshape(SIDE, SIDE, 1)
    image = Image.fromarray(np.concatenate([colour, alpha], axis=-1))
    made = client.augment([image], method="identity").variants[0, 0].astype(int)
    assert (made[: SIDE // 4] == 255).all()
    half = slice(SIDE // 4, SIDE // 2)
    assert np.abs(made[half] - (colour[half] * (128 / 255) + 255 * (127 / 255))).max() < 1
    assert np.array_equal(made[SIDE // 2 :], colour[SIDE // 2 :])
    palette = Image.fromarray(colour).quantize(16)
    palette.info["transparency"] = 0
    drawn = client.augment([palette], method="identity").variants[0, 0]
    assert (drawn[np.asarray(palette) == 0] == 255).all()


@pytest.mark.parametrize("image", [Image.fromarray(grey(np.int32)), Image.fromarray(grey(np.float32))])
def test_numbers_without_a_range_are_refused(client, sent, image):
    from restain.torch import RestainCollate, RestainTransform

    calls = [lambda: client.augment([image]), lambda: RestainTransform(client)(image)]
    for call in (*calls, lambda: RestainCollate(client)([image])):
        with pytest.raises(ValueError, match=f"mode {image.mode}, 32-bit numbers without a fixed range"):
            call()
    assert not sent.sizes
