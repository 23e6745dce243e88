"""A real headless Chromium on the page of a server. `Opened` checks every page: it may send requests only to its server, and
it may log no error."""

import base64
import io
import os
import re
import shutil
from urllib.parse import urlsplit

import numpy as np
import pytest
import required
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from served import SIDE, tiles

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# Containers lack the rights that the sandbox needs; the other flags keep the browser from sending requests of its own.
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
DOMAINS = ["north", "south", "west"]
# One domain: with one tile, one variant.
ONE = "#seed=7&domains=south"
# The longest wait for a picture, on a busy machine.
expect.set_options(timeout=20_000)


# Of a module and not of the session: as long as it lives its event loop runs, and asynchronous tests need their own.
@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        required.missing("Chromium is not installed (Debian package: chromium), and CHROMIUM names none")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


class Opened:
    """A page, and what it did: the hosts it asked, and what it complained of."""

    def __init__(self, browser, server, where="#seed=7", before="", **options):
        self.server = server
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
        self.context.add_init_script(before)
        self.page = self.context.new_page()
        self.asked, self.complaints = set(), []
        self.page.on("request", lambda request: self.asked.add(urlsplit(request.url)[:2]))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self.hear)
        self.page.goto(f"{server.url}/{where}")

    def hear(self, message):
        # Chromium itself notes every answer that is an error; those are what some tests are about.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def close(self):
        self.context.close()
        strangers = {host for scheme, host in self.asked if scheme not in ("data", "blob")} - {self.server.http}
        assert not strangers, f"the page asked others: {strangers}"
        assert not self.complaints, self.complaints

    # What a visitor sees.

    @property
    def variants(self):
        return self.page.locator("#grid .variant")

    def shows(self, variants, tiles):
        """Waits until the table is this, and of now."""
        words = lambda count, word: f"{count} {word}{'' if count == 1 else 's'}"
        expect(self.page.locator("#grid")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator("#summary")).to_contain_text(f"{words(variants, 'variant')} of {words(tiles, 'tile')} in")
        expect(self.variants).to_have_count(variants)

    def picture(self, place):
        """uint8 [height, width, 3]: the variant at a place of the table, once it is there."""
        expect(self.variants.nth(place).locator("img.is")).to_have_attribute("src", re.compile("^data:"))
        return decode(self.variants.nth(place).locator("img.is").get_attribute("src"))

    # What a visitor does.

    def drop(self, **files):
        """Drops files, each a name without its end and its bytes, somewhere on the page."""
        files = [[f"{name}.png", base64.b64encode(content).decode()] for name, content in files.items()]
        transfer = self.page.evaluate_handle(
            """files => {
                const transfer = new DataTransfer();
                for (const [name, content] of files) {
                    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
                    transfer.items.add(new File([bytes], name, { type: "image/png" }));
                }
                return transfer;
            }""",
            files,
        )
        for event in ("dragover", "drop"):
            self.page.dispatch_event("main", event, {"dataTransfer": transfer})

    def slide(self, value):
        self.page.get_by_label("Strength").fill(str(value))

    def only(self, *domains):
        """Leaves these domains alone ticked."""
        # They come with the bank, after the page itself.
        self.page.locator("#domains input").first.wait_for()
        for box in self.page.locator("#domains input").all():
            box.set_checked(box.get_attribute("value") in domains)

    def clipboard(self):
        return self.page.evaluate("navigator.clipboard.readText()")


@pytest.fixture
def visit(browser, server):
    """Opens pages; where they went and what went wrong is judged at the end."""
    opened = []

    def visit(where="#seed=7", at=None, **options):
        opened.append(Opened(browser, at or server, where, **options))
        return opened[-1]

    yield visit
    for page in opened:
        page.close()


def tile(seed=1, side=SIDE):
    """uint8 [side, side, 3]: a tile of the model's size, or of another."""
    return tiles(1, side, seed)[0]


def png(tile):
    """The bytes of a PNG file of uint8 [height, width, 3]."""
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "PNG")
    return file.getvalue()


def decode(source):
    """The pixels of a picture: a data URL, or the bytes of a file."""
    content = base64.b64decode(source.split(",", 1)[1]) if isinstance(source, str) else source
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except OSError as error:
        raise AssertionError(f"no picture: {source[:80]!r}, {len(content)} bytes, from {content[:40]!r}") from error


def differ(a, b):
    """The mean difference of two pictures, of 255."""
    return np.abs(a.astype(int) - b.astype(int)).mean()
