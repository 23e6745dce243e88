#!/usr/bin/env python3
"""A bill of materials of one of the programs and what is shipped with it, as CycloneDX JSON, on standard output.

    tools/sbom.py PROGRAM --crates FILE [--wheels PINS...] [--debian STATUS] [--bundles MODELS]

Everything comes from what was built or fetched: the crates from `deploy/image/crates.sh` with their digests from
Cargo.lock, the wheels from the pins beside the libraries that tools/fetch.py took out of them, the packages from
dpkg's own list, the models from their manifests. The same things make the same document, to the byte.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

SPECIFICATION = "1.6"


def component(kind, purl_type, namespace, name, version, qualifiers="", **more):
    path = "/".join(quote(part, safe="") for part in (*namespace, name))
    purl = f"pkg:{purl_type}/{path}@{quote(version, safe='')}{qualifiers}"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}


def sha256(digest):
    return {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}


def crates(listed, lock):
    """From `cargo tree`, one line a crate; this package itself, which has no digest in the lock file, comes first."""
    digests = {(package["name"], package["version"]): package.get("checksum") for package in tomllib.loads(lock)["package"]}
    seen = {}
    for line in listed.splitlines():
        package, _, licence = line.partition("|")
        name, version = package.split()[:2]
        # Older crates write a slash where SPDX has OR.
        licences = {"licenses": [{"expression": licence.strip().replace("/", " OR ")}]} if licence.strip() else {}
        version = version.removeprefix("v")
        seen[name, version] = component("library", "cargo", (), name, version, **licences, **sha256(digests[name, version]))
    return list(seen.values())


def wheels(pins):
    for requirement, digest in json.loads(pins).items():
        name, version = requirement.split("==")
        yield component("library", "pypi", (), name, version, **sha256(digest))


def debian(status):
    """From dpkg's list of what is installed: paragraphs of `Key: value`."""
    for paragraph in status.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))
        if fields["Status"] == "install ok installed":
            yield component("library", "deb", ("debian",), fields["Package"], fields["Version"], f"?arch={fields['Architecture']}")


def bundles(models):
    for manifest in sorted(models.glob("*/*/bundle.json")):
        version = manifest.parent
        yield component("machine-learning-model", "generic", ("restain",), version.parent.name, version.name)


def document(program, own, parts):
    about = {**own, "type": "application", "name": program, "bom-ref": program}
    about.pop("hashes", None)
    tool = {"type": "application", "name": "tools/sbom.py"}
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {"component": about, "tools": {"components": [tool]}},
        "components": sorted(parts, key=lambda part: part["purl"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--crates", type=argparse.FileType(), required=True)
    parser.add_argument("--lock", type=Path, default=Path("Cargo.lock"))
    parser.add_argument("--wheels", type=Path, nargs="*", default=[])
    parser.add_argument("--debian", type=Path)
    parser.add_argument("--bundles", type=Path)
    args = parser.parse_args()
    own, *parts = crates(args.crates.read(), args.lock.read_text())
    for pins in args.wheels:
        parts += wheels(pins.read_text())
    if args.debian:
        parts += debian(args.debian.read_text())
    if args.bundles:
        parts += bundles(args.bundles)
    json.dump(document(args.program, own, parts), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
