#!/usr/bin/env python3
"""Builds the documentation as a site, of the repository's own pages and of generated ones.

    tools/site.py OUT [--programs DIR...]

It copies the pages, and the files that they link to, into OUT-pages, in the places that they have in the repository, so
that a link that works in the one works in the other. It adds the pages of the reference (tools/reference.py) and the
notebook as a page. MkDocs then builds OUT, and fails for a link or an anchor that leads nowhere. At last no page of OUT may
load anything from another host.

`--programs` are directories with `restain` and `restain-train`, whose `--help` becomes two of the pages; the first that has
one counts. It needs the packages that tools/docs.txt pins. `make docs` runs it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import reference

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(f"{name}.md" for name in ("README", "ARCHITECTURE", "BENCHMARKS", "CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")),
    "clients/python/README.md",
    "models/demo/9/MODEL_CARD.md",
]
LINK = re.compile(r"\]\(([^()\s]+)\)")
# What makes a browser load something, in a page and in a style sheet.
LOADS = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc\s*=\s*["']?([^"'\s>]+)|<link\b[^>]*?\bhref\s*=\s*["']?([^"'\s>]+)""", re.I)
STYLE_LOADS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", re.I)
# Links of the head that name a place and load nothing.
NAMES_ONLY = re.compile(r"""<link\b[^>]*\brel=["']?(?:canonical|next|prev)\b[^>]*>""", re.I)


def stage(pages, programs):
    """Writes everything that the site is made of to an empty directory."""
    shutil.rmtree(pages, ignore_errors=True)
    names = [*PAGES, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md")))]
    for name in names:
        copy(name, pages)
        for target in LINK.findall((ROOT / name).read_text()):
            place = urlsplit(target)
            linked = Path(os.path.normpath((ROOT / name).parent / unquote(place.path)))
            if not place.scheme and place.path and linked.suffix != ".md" and linked.is_file() and linked.is_relative_to(ROOT):
                copy(linked.relative_to(ROOT).as_posix(), pages)
    put(pages / "docs/notebook.md", notebook(ROOT / "docs/notebook.ipynb"))
    put(pages / "docs/reference/http.md", reference.Api((ROOT / "openapi.yaml").read_text()).page())
    put(pages / "docs/reference/grpc.md", reference.grpc_page((ROOT / "proto/restain/v1/restain.proto").read_text()))
    for name in ("restain", "restain-train"):
        built = next((place / name for place in programs if (place / name).is_file()), None)
        put(pages / f"docs/reference/{name}.md", reference.command_page(built) if built else reference.missing_page(name))


def copy(name, pages):
    put(pages / name, (ROOT / name).read_bytes())


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def notebook(path):
    """Returns a notebook as Markdown: its text and its code, with the text that the code printed."""
    text = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        text.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(text) + "\n"


def strangers(out):
    """Yields each page and style sheet of a site with what it would load from another host."""
    for path in sorted(out.rglob("*")):
        if path.suffix in (".html", ".css"):
            text = NAMES_ONLY.sub("", path.read_text())
            pattern = LOADS if path.suffix == ".html" else STYLE_LOADS
            for found in pattern.findall(text):
                target = "".join(found)
                if urlsplit(target).netloc:
                    yield path.relative_to(out).as_posix(), target


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path)
    options.add_argument("--programs", type=Path, nargs="*", default=[])
    given = options.parse_args()
    out = given.out.resolve()
    pages = out.with_name(f"{out.name}-pages")
    stage(pages, [place.resolve() for place in given.programs])
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "docs/mkdocs.yml", "--site-dir", out]
    environment = {**os.environ, "SITE_PAGES": str(pages), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment)
    if done.returncode:
        sys.exit(done.returncode)
    loaded = [f"{page} loads {target}" for page, target in strangers(out)]
    if loaded:
        sys.exit("\n".join(loaded))
    print(out / "index.html")


if __name__ == "__main__":
    main()
