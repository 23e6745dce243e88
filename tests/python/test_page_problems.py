"""The page at / when something is wrong: it is explained where it is, and everything else goes on."""

import json
import subprocess

from browser import ONE, browser, png, tile, visit  # noqa: F401, of which two are fixtures
from playwright.sync_api import expect
from served import PROGRAM, SIDE


def test_a_file_that_is_no_picture_is_explained_and_the_others_remain_usable(visit):
    page = visit()
    page.drop(good=png(tile()), bad=b"not a picture")
    page.shows(variants=3, tiles=1)
    row = page.page.locator(".row", has_text="bad.png")
    expect(row).to_contain_text("A picture cannot be decoded")
    expect(row).to_contain_text("PNG, JPEG, WebP or TIFF")
    expect(row).to_contain_text("undecodable_image")
    page.slide(0.5)
    page.shows(variants=3, tiles=1)
    row.get_by_role("button", name="Remove bad.png").click()
    expect(page.page.locator(".row .problem")).to_have_count(0)
    page.shows(variants=3, tiles=1)


def test_a_tile_of_another_size_has_variants_of_its_size_and_one_too_small_is_explained(visit):
    page = visit(ONE)
    page.drop(large=png(tile(side=SIDE + 8)), small=png(tile(side=15)))
    page.shows(variants=1, tiles=1)
    shown = page.variants.first.locator("img.is")
    expect(shown).to_have_js_property("naturalWidth", SIDE + 8)
    assert page.picture(0).shape == (SIDE + 8, SIDE + 8, 3)
    problem = page.page.locator(".row .problem")
    expect(problem).to_contain_text("This tile is 15×15 pixels, and must have from 16 to 8192 pixels a side")
    page.page.locator("[name=detail][value=model]").check()
    page.shows(variants=1, tiles=1)
    expect(shown).to_have_js_property("naturalWidth", SIDE)
    assert page.picture(0).shape == (SIDE, SIDE, 3), "the bare product has the model's size"


def test_a_tile_that_is_shown_before_the_samples_are_ready_remains_shown(visit):
    # Samples are cut to the model's size when the page starts; here that takes until the test says so.
    page = visit(
        ONE,
        before="""
            const cut = createImageBitmap, gate = new Promise((open) => { window.openGate = open; });
            window.createImageBitmap = async (blob, options) => { if (options) await gate; return cut(blob, options); };
        """,
    )
    page.page.locator("#domains input").first.wait_for()
    page.drop(own=png(tile()))
    page.shows(variants=1, tiles=1)
    cell = page.variants.first.element_handle()
    with page.page.expect_response("**/v1/augment"):
        page.page.evaluate("openGate()")
    page.shows(variants=1, tiles=1)
    assert page.page.evaluate("cell => cell.isConnected", cell), "the variant is in its place, and was not made anew"


def test_a_choice_that_cannot_be_made_is_explained(visit):
    page = visit(ONE + "&samples=hospital_0_normal")
    page.shows(variants=1, tiles=1)
    problem = page.page.get_by_role("alert")
    page.page.get_by_role("button", name="none").click()
    expect(problem).to_contain_text("No domain is selected")
    page.page.get_by_role("button", name="all").click()
    page.shows(variants=3, tiles=1)
    expect(problem).to_be_hidden()
    page.page.get_by_role("spinbutton", name="Variants").fill("0")
    expect(problem).to_contain_text("Variants")
    # The server's own words, with its code.
    page.page.get_by_role("spinbutton", name="Variants").fill("1")
    page.page.get_by_label("Styles from").select_option("batch")
    expect(problem).to_contain_text("no_styles")


def test_an_overloaded_server_is_asked_again_when_it_said(visit):
    page = visit(ONE + "&samples=hospital_0_normal")
    page.shows(variants=1, tiles=1)
    refusal = {"type": "urn:restain:overloaded", "title": "The queue is full", "status": 429, "detail": "come back", "code": "overloaded"}
    head = {"content-type": "application/problem+json", "retry-after": "2"}
    page.page.route("**/v1/augment", lambda route: route.fulfill(status=429, headers=head, body=json.dumps(refusal)), times=1)
    page.slide(0.5)
    expect(page.page.get_by_role("alert")).to_contain_text("The queue is full")
    expect(page.page.get_by_role("button", name="automatically in")).to_be_visible()
    page.shows(variants=1, tiles=1)
    expect(page.page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_is_gone_is_told_of_and_taken_up_again(visit, serve):
    server = serve()
    page = visit(ONE + "&samples=hospital_0_normal", at=server)
    page.shows(variants=1, tiles=1)
    server.kill()
    page.slide(0.5)
    expect(page.page.get_by_role("alert")).to_contain_text("The server does not answer")
    expect(page.page.locator("#live")).to_have_class("gone")
    server.start()
    page.shows(variants=1, tiles=1)
    expect(page.page.get_by_role("alert")).to_be_hidden()


def test_a_server_with_keys_asks_for_one_and_what_is_copied_names_none(visit, serve, tmp_path):
    told = [subprocess.run([PROGRAM, "key", name, "--scope", scopes], capture_output=True, text=True, check=True) for name, scopes in [("a", "augment"), ("b", "augment,metrics")]]
    (tmp_path / "keys.toml").write_text("".join(made.stdout for made in told))
    tokens = [made.stderr.split()[-1] for made in told]
    page = visit(ONE + "&samples=hospital_0_normal", at=serve("--keys", tmp_path / "keys.toml"))
    problem = page.page.get_by_role("alert")
    expect(problem).to_contain_text("unauthenticated")
    page.page.get_by_label("Key").fill("rst_wrong")
    page.page.get_by_role("button", name="Use this key").click()
    expect(problem).to_contain_text("belongs to no key of this server")
    page.page.get_by_label("Key").fill(tokens[0])
    page.page.get_by_role("button", name="Use this key").click()
    page.shows(variants=1, tiles=1)
    expect(problem).to_be_hidden()
    # This key is not for figures.
    expect(page.page.locator("#live")).to_be_hidden()
    for name in ["curl", "Python"]:
        page.page.get_by_role("button", name=name).click()
        expect(page.page.locator("#code-text")).to_contain_text("RESTAIN_KEY")
        assert tokens[0] not in page.page.content() + page.page.url
        page.page.keyboard.press("Escape")
    page.page.evaluate("sessionStorage.clear()")
    page.page.reload()
    page.page.get_by_label("Key").fill(tokens[1])
    page.page.get_by_role("button", name="Use this key").click()
    page.shows(variants=1, tiles=1)
    expect(page.page.locator("#live")).to_be_visible()
    expect(page.page.locator("#live b").first).not_to_have_text("–")
