"""`make release` as a dry run, in a copy of the repository: what it checks before it would build and tag."""

import subprocess

import pytest
from served import ROOT

# What tools/release.sh reads.
FILES = [
    "Makefile",
    "tools/release.sh",
    "tools/need.sh",
    "Cargo.toml",
    "CITATION.cff",
    "CHANGELOG.md",
    "Dockerfile",
    "clients/python/src/restain/version.py",
]


class Repository:
    def __init__(self, folder):
        self.folder = folder
        for name in FILES:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((ROOT / name).read_bytes())
            path.chmod((ROOT / name).stat().st_mode)
        self.git("init", "--quiet")
        self.commit()

    def git(self, *arguments):
        own = ["-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
        return subprocess.run(["git", *own, *arguments], cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "release")

    def change(self, name, before, after):
        path = self.folder / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))

    def dry_run(self, version):
        command = ["make", "--no-print-directory", "release", "DRY_RUN=1", f"VERSION={version}"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path):
    repository = Repository(tmp_path)
    repository.change("CHANGELOG.md", "## Unreleased", "## 0.1.0 - 2026-01-01")
    repository.commit()
    return repository


def test_a_dry_run_names_the_steps_and_does_nothing(repository):
    before = sorted(path for path in repository.folder.rglob("*") if ".git" not in path.parts)
    done = repository.dry_run("0.1.0")
    assert done.returncode == 0, done.stderr
    assert "restain 0.1.0 is ready" in done.stdout
    steps = ["make check", "tools/release.sh build 0.1.0", "git tag --annotate v0.1.0"]
    assert [line.strip().split("  ")[0] for line in done.stdout.splitlines()[1:]] == steps
    assert "push" not in done.stdout
    assert repository.git("tag", "--list") == ""
    assert sorted(path for path in repository.folder.rglob("*") if ".git" not in path.parts) == before


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "VERSION is '', and must be a version such as 0.2.0"),
        ("v0.1.0", "VERSION is 'v0.1.0'"),
        ("0.2.0", "Cargo.toml: the workspace's version is not 0.2.0"),
    ],
)
def test_another_version_is_refused(repository, version, said):
    done = repository.dry_run(version)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("CITATION.cff", "version: 0.1.0", "version: 0.0.9", "CITATION.cff: the cited version is not 0.1.0"),
        ("clients/python/src/restain/version.py", '"0.1.0"', '"0.0.9"', "clients/python/src/restain/version.py: the packages' version"),
        ("Dockerfile", 'image.version="0.1.0"', 'image.version="0.0.9"', "Dockerfile: the image's label is not 0.1.0"),
        ("CHANGELOG.md", "## 0.1.0", "## Unreleased", "CHANGELOG.md has no heading `## 0.1.0`"),
    ],
)
def test_files_of_another_version_are_named(repository, name, before, after, said):
    repository.change(name, before, after)
    repository.commit()
    done = repository.dry_run("0.1.0")
    assert done.returncode != 0
    assert said in done.stderr


def test_changes_that_are_not_committed_and_a_tag_that_exists_are_refused(repository):
    repository.git("tag", "v0.1.0")
    assert "the tag v0.1.0 exists already" in repository.dry_run("0.1.0").stderr
    repository.change("Makefile", "help: ##", "help:  ##")
    assert "Makefile" in repository.dry_run("0.1.0").stderr
