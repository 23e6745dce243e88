#!/usr/bin/env python3
"""Writes the bill of materials of a program and its image, as CycloneDX JSON, to standard output.

    tools/sbom.py PROGRAM --crates FILE [--wheels PINS...] [--debian STATUS] [--bundles MODELS]

The entries come from what was built or fetched: crates from `deploy/image/crates.sh` with their digests from Cargo.lock,
wheels from the pins that tools/fetch.py writes, Debian packages from dpkg's status file, models from their manifests. Equal
inputs give equal bytes.
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
    """Reads `cargo tree`, one crate a line, the program's package first. Packages of this workspace have no digest."""
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
    """Reads dpkg's status file: paragraphs of `Key: value`."""
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
