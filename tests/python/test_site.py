"""The site of `make docs`: it builds strictly, no page of it asks another host, and what it generates is what its sources say.

The builder itself fails for a link or an anchor that leads nowhere; here it is shown that it does.
"""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import nbclient
import nbformat
import pytest
import yaml
from browser import browser  # noqa: F401, a fixture
from packed import BUILT, install_named
from served import ROOT

NOTEBOOK = ROOT / "docs/notebook.ipynb"


def build(root, out, *programs):
    command = [sys.executable, root / "tools/site.py", out, "--programs", *programs]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, out, BUILT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return out


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value is not None:
                self.links.add(value)
            elif name == "id":
                self.anchors.add(value)


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 30
    broken = []
    for name, page in pages.items():
        for link in page.links:
            target = urlsplit(urljoin(f"/{name}", link))
            if target.netloc or target.scheme:
                continue
            place = target.path.strip("/")
            place = f"{place}/index.html".lstrip("/") if not place or (site / place).is_dir() else place
            if not (site / place).is_file() or (target.fragment and place in pages and target.fragment not in pages[place].anchors):
                broken.append(f"{name}: {link}")
    assert not broken


def test_links_of_the_repository_lead_to_files(site):
    pages = site.with_name("site-pages")
    staged = [path for path in pages.rglob("*.md") if (ROOT / path.relative_to(pages)).is_file()]
    assert len(staged) > 25
    for path in staged:
        source = ROOT / path.relative_to(pages)
        for link in re.findall(r"\]\(([^()\s]+)\)", source.read_text()):
            target = urlsplit(link)
            assert target.scheme or not target.path or (source.parent / target.path).exists(), f"{source}: {link}"


def test_a_broken_link_or_anchor_or_a_strange_host_fails_the_build(tmp_path):
    root = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "docs", "tools", "openapi.yaml", "proto", "LICENSE", "CITATION.cff", "deploy", "models/demo/9/samples.png"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    faq = root / "docs/faq.md"
    text = faq.read_text()
    for added, said in {
        "[nowhere](nowhere.md) [no anchor](training.md#nowhere)": ["'nowhere.md'", "'#nowhere'"],
        "![picture](https://example.org/picture.png)": ["loads https://example.org/picture.png"],
    }.items():
        faq.write_text(f"{text}\n{added}\n")
        done = build(root, tmp_path / "site")
        assert done.returncode != 0
        assert all(words in done.stderr for words in said), done.stderr


def test_no_page_asks_another_host(site, browser):  # noqa: F811
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        asked, complaints = set(), []
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        for path in ("", "docs/first-hour/", "docs/notebook/", "docs/reference/http/", "docs/results/"):
            assert page.goto(f"http://127.0.0.1:{server.server_port}/{path}").ok
        # It searches in its own index, which it loads with the first click.
        search = page.get_by_role("textbox", name="Search").first
        search.click()
        # By keys, which is what it listens to: text that is filled in is seen only if it is there at the click.
        search.press_sequentially("rendezvous")
        page.locator(".md-search-result__item").first.wait_for(timeout=120_000)
        page.close()
        server.shutdown()
    assert {host for host in asked if host} == {f"127.0.0.1:{server.server_port}"}
    assert not complaints


def test_the_reference_has_every_route_message_and_option(site):
    http_page = (site / "docs/reference/http/index.html").read_text()
    for path, methods in yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in http_page
    grpc_page = (site / "docs/reference/grpc/index.html").read_text()
    proto = (ROOT / "proto/restain/v1/restain.proto").read_text()
    for kind, name in re.findall(r"^(message|enum|service) (\w+)", proto, re.M):
        assert f'id="{name.lower()}"' in grpc_page, kind
    for name in re.findall(r"^ +(?:optional |repeated )?[\w.]+ (\w+) = \d+;", proto, re.M):
        assert f"<code>{name}</code>" in grpc_page
    shown = re.sub("<[^>]*>", "", (site / "docs/reference/restain/index.html").read_text())
    options = subprocess.run([BUILT / "restain", "serve", "--help"], capture_output=True, text=True, check=True).stdout
    for flag in re.findall(r"^ +(--[\w-]+)", options, re.M):
        assert flag in shown


def test_both_environments_have_one_generator():
    pins = {line for line in (ROOT / "tools/docs.txt").read_text().splitlines() if not line.startswith("#")}
    assert pins <= set((ROOT / "tests/python/requirements.txt").read_text().splitlines())


def test_the_notebook_runs_with_what_it_says_to_install(wheels, tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    [named] = re.findall(r"`pip install ([^`]*)`", notebook.cells[0].source)
    # The kernel itself is what a reader has who reads a notebook.
    bin = install_named([*named.replace("'", "").split(), "ipykernel"], wheels, tmp_path / "env")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(ROOT / "docs/tile.png", here)
    ran = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": here}})
    ran.create_kernel_manager().kernel_spec.argv[0] = str(bin / "python")
    ran.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert "'centre_4'" in outputs[0]["data"]["text/plain"]
    assert outputs[-1]["text"] == "(8, 3, 96, 96) [0, 0, 1, 1, 0, 0, 1, 1]\n(8, 3, 96, 96) [1, 0, 0, 1, 1, 0, 0, 1]\n"
