"""What the page at / gives to take along: commands that make the pictures that are shown."""

import subprocess
import sys
import tarfile

import pytest
from browser import DOMAINS, ONE, browser, decode, differ, png, tile, visit  # noqa: F401, of which two are fixtures
from playwright.sync_api import expect
from served import SIDE


def test_the_copied_curl_command_gives_the_picture_that_is_shown(visit, tmp_path):
    page = visit(ONE + "&strength=0.5")
    page.drop(**{"a tile's, of ours; old": png(tile())})
    page.shows(variants=1, tiles=1)
    page.page.get_by_role("button", name="curl").click()
    expect(page.page.locator("#code-title")).to_have_text("curl, copied")
    (tmp_path / "a tile's, of ours; old.png").write_bytes(png(tile()))
    subprocess.run(page.clipboard(), shell=True, cwd=tmp_path, check=True)
    assert differ(decode((tmp_path / "south.png").read_bytes()), page.picture(0)) == 0


def test_the_copied_curl_commands_give_all_pictures_of_the_table(visit, tmp_path):
    page = visit("#seed=7&compare=1")
    page.drop(a=png(tile(1)), b=png(tile(2, side=SIDE + 8)))
    page.shows(variants=12, tiles=2)
    page.page.get_by_role("button", name="curl").click()
    for name, content in [("a", png(tile(1))), ("b", png(tile(2, side=SIDE + 8)))]:
        (tmp_path / f"{name}.png").write_bytes(content)
    subprocess.run(page.clipboard(), shell=True, cwd=tmp_path, check=True)
    for place, domain in enumerate(DOMAINS):
        for beside, method in enumerate(["vit", "color-match"]):
            with tarfile.open(tmp_path / f"{domain}-{method}.tar") as archive:
                for row in range(2):
                    made = decode(archive.extractfile(f"{row:06}_000.png").read())
                    assert differ(made, page.picture(row * 6 + place * 2 + beside)) == 0


@pytest.mark.parametrize("chosen", ["from=bank", "from=reference"])
def test_the_copied_python_gives_the_pictures_that_are_shown(visit, tmp_path, chosen):
    page = visit(f"#seed=7&variants=2&{chosen}")
    page.drop(a=png(tile(1)), b=png(tile(2)))
    columns = DOMAINS if chosen == "from=bank" else ["a.png", "b.png"]
    page.shows(variants=2 * 2 * len(columns), tiles=2)
    page.page.get_by_role("button", name="Python").click()
    for seed, name in enumerate("ab", start=1):
        (tmp_path / f"{name}.png").write_bytes(png(tile(seed)))
    expect(page.page.locator("#code-title")).to_have_text("Python, copied")
    (tmp_path / "augment.py").write_text(page.clipboard())
    subprocess.run([sys.executable, "augment.py"], cwd=tmp_path, check=True, capture_output=True)
    for row, name in enumerate("ab"):
        for place, column in enumerate(columns):
            for index in range(2):
                made = decode((tmp_path / f"{name}-{column}-{index}.png").read_bytes())
                assert differ(made, page.picture((row * len(columns) + place) * 2 + index)) == 0
