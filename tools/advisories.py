#!/usr/bin/env python3
"""Known vulnerabilities of the crates in Cargo.lock, without a network: by the dated snapshot in tools/advisories.tsv.

    tools/advisories.py check              exits 1 with a line for each advisory that applies and that deny.toml does not ignore
    tools/advisories.py snapshot DATABASE  writes the snapshot from a checkout of the RustSec advisory database

`make deny` asks the database itself if it can be reached. The snapshot is from the RustSec advisory database, of which it
holds the facts: identifiers, crates, kinds, and versions.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "tools" / "advisories.tsv"
OPERATORS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
}


def version(text):
    """Returns what sorts as semantic versions do. Of builds, and of numbers that are left out, nothing is kept.

    >>> version("1.2.3-alpha.9") < version("1.2.3-alpha.10") < version("1.2.3") < version("1.10")
    True
    """
    text, _, early = text.partition("+")[0].partition("-")
    numbers = [int(part) for part in text.split(".")]
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in early.split(".")] if early else [(2, 0, "")]
    return (*(numbers + [0, 0])[:3], parts)


def next_of(text, *, caret):
    """Returns the first version that `^text`, or `~text`, no longer means."""
    numbers = [int(part) for part in text.partition("-")[0].split(".")]
    last = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1) if caret else min(1, len(numbers) - 1)
    return (*(numbers[:last] + [numbers[last] + 1, 0, 0])[:3], [(0, -1, "")])


def within(held, requirement):
    """Whether a version meets a requirement as Cargo writes it.

    >>> [within(version("0.3.4"), requirement) for requirement in ("^0.3.2", ">= 0.3, < 0.3.4", "~0.2", "< 1", "=0.3.4")]
    [True, False, False, True, True]
    """
    for part in filter(None, (part.strip() for part in requirement.split(","))):
        operator, text = re.fullmatch(r"(<=|>=|<|>|=|\^|~)?\s*(\S+)", part).groups()
        if operator in (None, "^", "~"):
            if not version(text) <= held < next_of(text, caret=operator != "~"):
                return False
        elif not OPERATORS[operator](held, version(text)):
            return False
    return True


def snapshot(database):
    """Yields the lines of the snapshot."""
    git = ["git", "-C", database]
    commit = subprocess.run([*git, "log", "-1", "--format=%h of %cs"], check=True, capture_output=True, text=True)
    yield f"# RustSec advisory database, {commit.stdout.strip()}: identifier, crate, kind, patched, unaffected"
    names = subprocess.run([*git, "ls-tree", "-r", "--name-only", "HEAD", "crates"], check=True, capture_output=True, text=True)
    for name in sorted(filter(lambda name: name.endswith(".md"), names.stdout.splitlines())):
        text = subprocess.run([*git, "show", f"HEAD:{name}"], check=True, capture_output=True, text=True).stdout
        entry = tomllib.loads(text.partition("```toml")[2].partition("```")[0])
        advisory, versions = entry["advisory"], entry.get("versions", {})
        if "withdrawn" not in advisory:
            kind = advisory.get("informational", "vulnerability")
            ranges = ("; ".join(versions.get(key, [])) for key in ("patched", "unaffected"))
            yield "\t".join([advisory["id"], advisory["package"], kind, *ranges])


def applying(lock, lines):
    """Yields (identifier, crate, version, kind) of what applies to the crates of a lock file."""
    held = {}
    for package in tomllib.loads(lock)["package"]:
        if "source" in package:
            held.setdefault(package["name"], []).append(package["version"])
    for line in lines:
        identifier, crate, kind, *ranges = line.split("\t")
        fine = [requirement for text in ranges for requirement in text.split("; ") if requirement]
        for used in held.get(crate, []):
            if not any(within(version(used), requirement) for requirement in fine):
                yield identifier, crate, used, kind


def check():
    """Prints what applies, and returns whether nothing does."""
    first, *lines = SNAPSHOT.read_text().splitlines()
    ignored = tomllib.loads((ROOT / "deny.toml").read_text())["advisories"].get("ignore", [])
    ignored = {entry["id"] if isinstance(entry, dict) else entry for entry in ignored}
    found = [entry for entry in applying((ROOT / "Cargo.lock").read_text(), lines) if entry[0] not in ignored]
    for identifier, crate, used, kind in found:
        print(f"{identifier} applies to {crate} {used}: {kind}", file=sys.stderr)
    print(f"advisories by the snapshot ({first.partition(', ')[2].partition(':')[0]}): {len(found)} apply")
    return not found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check"]:
            sys.exit(not check())
        case ["snapshot", database]:
            SNAPSHOT.write_text("\n".join(snapshot(database)) + "\n")
        case _:
            sys.exit(__doc__)
