"""The page at /, as a visitor with a browser meets it."""

import io
import re

import numpy as np
import pytest
from browser import DOMAINS, ONE, browser, decode, differ, png, tile, visit  # noqa: F401, of which two are fixtures
from PIL import Image
from playwright.sync_api import expect
from served import SIDE, install

# Tiles come in


def test_it_opens_with_samples_in_the_stain_of_every_domain(visit):
    page = visit()
    page.shows(variants=9, tiles=3)
    expect(page.page.locator("#grid .group .label span:first-child")).to_have_text(DOMAINS)
    expect(page.page.locator("#samples [aria-pressed=true]")).to_have_count(3)
    assert page.picture(0).shape == (SIDE, SIDE, 3), "samples are cut to the model's size"


def test_dropping_files_shows_their_variants_and_puts_the_samples_away(visit):
    page = visit()
    page.shows(variants=9, tiles=3)
    page.drop(a=png(tile(1)), b=png(tile(2)))
    page.shows(variants=6, tiles=2)
    expect(page.page.locator(".original a")).to_have_text(["a.png", "b.png"])
    assert differ(page.picture(0), page.picture(1)) > 1, "of two domains"
    # What was brought stays when more is brought.
    page.drop(a=png(tile(3)))
    page.shows(variants=9, tiles=3)
    expect(page.page.locator(".original a")).to_have_text(["a.png", "b.png", "a-2.png"])


def test_a_sample_comes_and_goes_by_its_button(visit):
    page = visit("#seed=7&samples=")
    sample = page.page.get_by_role("button", name="hospital 3 tumour")
    sample.click()
    page.shows(variants=3, tiles=1)
    expect(sample).to_have_attribute("aria-pressed", "true")
    sample.click()
    expect(page.variants).to_have_count(0)
    expect(page.page.locator("#empty")).to_be_visible()


def test_a_tiff_is_shown_though_the_browser_cannot_read_it(visit):
    page = visit(ONE)
    file = io.BytesIO()
    Image.fromarray(tile()).save(file, "TIFF")
    page.page.set_input_files("#file", [{"name": "slide.tif", "mimeType": "image/tiff", "buffer": file.getvalue()}])
    page.shows(variants=1, tiles=1)
    width = page.page.locator(".original img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width == SIDE


# Choices


def test_the_strength_changes_the_pixels_and_at_0_the_tile_is_as_it_was(visit):
    page = visit(ONE + "&method=color-match")
    page.drop(a=png(tile()))
    page.shows(variants=1, tiles=1)
    whole = page.picture(0)
    # Until it asks, the table is that of before.
    asked = lambda answer: "/v1/augment" in answer.url
    with page.page.expect_response(asked):
        page.slide(0.5)
    page.shows(variants=1, tiles=1)
    half = page.picture(0)
    with page.page.expect_response(asked):
        page.slide(0)
    page.shows(variants=1, tiles=1)
    assert differ(page.picture(0), tile()) < 1
    assert 1 < differ(half, tile()) < differ(whole, tile())
    expect(page.page.locator(".delta")).to_have_text("Δ 0.0")


def test_a_new_seed_draws_other_styles_and_the_old_one_the_old(visit):
    page = visit("#seed=7&samples=hospital_0_normal&variants=3")
    page.shows(variants=9, tiles=1)
    first = [page.picture(place) for place in range(9)]
    # A bank of three styles a domain has few orders to draw them in: one seed may well give what another gave.
    for _ in range(30):
        page.page.get_by_role("button", name="New").click()
        page.shows(variants=9, tiles=1)
        assert "seed=7" not in page.page.url.split("&")
        if any(differ(page.picture(place), first[place]) > 0 for place in range(9)):
            break
    else:
        raise AssertionError("thirty seeds drew the same styles in the same order")
    page.page.get_by_label("Seed").fill("7")
    page.shows(variants=9, tiles=1)
    assert all(differ(page.picture(place), first[place]) == 0 for place in range(9))


def test_color_match_stands_beside_the_model_with_the_same_style(visit):
    page = visit("#seed=7&samples=hospital_0_normal,hospital_1_tumour")
    page.page.get_by_label("Compare with color-match").check()
    page.shows(variants=12, tiles=2)
    styles = page.page.locator("#grid .style").all_text_contents()
    assert styles[0::2] == styles[1::2] and all(styles)
    assert differ(page.picture(0), page.picture(1)) > 1
    expect(page.page.locator(".methods").first).to_have_text("vitcolor-match")


def test_tiles_lend_their_stain_to_each_other(visit):
    page = visit("#seed=7&samples=hospital_0_normal,hospital_2_tumour&from=reference&placement=aligned")
    page.shows(variants=4, tiles=2)
    page.page.get_by_label("Styles from").select_option("own")
    page.shows(variants=2, tiles=2)
    expect(page.page.locator("#bank")).to_be_hidden()


def test_styles_of_the_map_are_used_alone_and_two_are_mixed(visit):
    page = visit("#seed=7&samples=hospital_0_normal")
    page.shows(variants=3, tiles=1)
    styles = page.page.get_by_role("listbox", name="Mean colours")
    expect(styles.get_by_role("option")).to_have_count(9)
    styles.get_by_role("option", name="south/1").dispatch_event("click")
    page.shows(variants=1, tiles=1)
    alone = page.picture(0)
    styles.get_by_role("option", name="west/2").dispatch_event("click")
    page.shows(variants=3, tiles=1)
    expect(page.page.locator(".group .label span:first-child")).to_have_text(["south/1", "blend", "west/2"])
    assert differ(page.picture(0), alone) == 0
    assert 0 < differ(page.picture(1), alone) < differ(page.picture(2), alone)
    page.page.get_by_role("button", name="back to domains").click()
    page.shows(variants=3, tiles=1)


def test_what_is_chosen_stands_in_the_address(visit):
    page = visit("#seed=7&samples=hospital_4_tumour")
    page.slide(0.35)
    page.only("north", "west")
    page.page.get_by_label("color-match", exact=True).check(force=True)
    page.page.get_by_role("spinbutton", name="Variants").fill("2")
    page.shows(variants=4, tiles=1)
    page.page.get_by_role("button", name="link").click()
    expect(page.page.locator("#link")).to_have_text("copied")
    link = page.clipboard()
    again = visit(link.removeprefix(f"{page.server.url}/"))
    again.shows(variants=4, tiles=1)
    assert all(differ(again.picture(place), page.picture(place)) == 0 for place in range(4))


def test_an_obsolete_request_is_given_up(visit):
    page = visit("#seed=7&samples=hospital_0_normal&domains=north")
    page.shows(variants=1, tiles=1)
    before = page.picture(0)
    # The next one is left without an answer.
    page.page.route("**/v1/augment", lambda route: None, times=1)
    with page.page.expect_event("requestfailed") as failed:
        with page.page.expect_request("**/v1/augment"):
            page.slide(0.9)
        page.slide(0.4)
    assert failed.value.url.endswith("/v1/augment")
    page.shows(variants=1, tiles=1)
    assert differ(page.picture(0), before) > 0


# Looking closer


def test_the_difference_is_drawn_and_its_mean_is_told(visit):
    page = visit(ONE)
    page.drop(a=png(tile()))
    page.shows(variants=1, tiles=1)
    page.page.get_by_role("radio", name="Difference").check(force=True)
    expect(page.page.locator("#legend")).to_be_visible()
    assert page.variants.locator("canvas").evaluate("canvas => getComputedStyle(canvas).visibility") == "visible"
    told = float(page.page.locator(".delta").text_content().removeprefix("Δ "))
    assert told == pytest.approx(differ(page.picture(0), tile()), abs=0.051)
    drawn = decode(page.variants.locator("canvas").evaluate("canvas => canvas.toDataURL()"))
    apart = np.abs(page.picture(0).astype(int) - tile()).max(axis=2)
    # The scale becomes lighter from its one end to the other.
    assert drawn[apart >= 64].sum(axis=1).min(initial=765) > 600 and drawn[apart <= 5].sum(axis=1).max(initial=0) < 150


def test_holding_a_variant_shows_its_original(visit):
    page = visit(ONE + "&samples=hospital_0_normal")
    page.shows(variants=1, tiles=1)
    was = page.variants.locator(".was")
    page.variants.locator(".picture").hover()
    page.page.mouse.down()
    expect(was).to_have_css("visibility", "visible")
    page.page.mouse.up()
    expect(was).to_have_css("visibility", "hidden")
    expect(page.page.locator("#zoom")).to_be_hidden()


def test_all_of_it_is_used_by_keyboard_alone(visit):
    page = visit("#seed=7&samples=hospital_0_normal,hospital_1_normal")
    page.shows(variants=6, tiles=2)
    keyboard, focused = page.page.keyboard, page.page.locator(":focus")
    reached = []
    while "variant" not in reached[-1:]:
        keyboard.press("Tab")
        reached.append(focused.evaluate("at => at.id || at.name || (at.classList.contains('variant') ? 'variant' : at.getAttribute('role') ?? at.tagName)"))
        assert len(reached) < 60, reached
    order = ["file", "strength", "from", "all", "listbox", "method", "variants", "seed", "draw", "detail", "view", "compare", "curl", "variant"]
    assert [name for name in reached if name in order] == order, reached
    expect(page.variants.nth(0)).to_be_focused()
    for key, place in [("ArrowRight", 1), ("ArrowDown", 4), ("End", 5), ("ArrowUp", 2), ("Home", 0), ("ArrowRight", 1)]:
        keyboard.press(key)
        expect(page.variants.nth(place)).to_be_focused()
    keyboard.down("Space")
    expect(page.variants.nth(1).locator(".was")).to_have_css("visibility", "visible")
    keyboard.up("Space")
    expect(page.variants.nth(1).locator(".was")).to_have_css("visibility", "hidden")
    keyboard.press("Enter")
    expect(page.page.locator("#zoom h2")).to_have_text(f"hospital_0_normal.png as {page.variants.nth(1).locator('.style').get_attribute('title')}")
    expect(page.page.locator("#curtain")).to_be_focused()
    keyboard.press("ArrowRight")
    expect(page.page.locator("#curtain-shown")).to_have_text("51 : 49")
    keyboard.press("Escape")
    expect(page.variants.nth(1)).to_be_focused()
    # And the map of styles: with the arrows to one, and choose it.
    page.page.get_by_role("listbox", name="Mean colours").focus()
    keyboard.press("ArrowLeft")
    keyboard.press("Enter")
    page.shows(variants=2, tiles=2)
    expect(page.page.locator("#map [aria-selected=true]")).to_have_count(1)


def test_another_model_makes_other_variants_and_is_named_in_what_is_copied(visit, serve, tmp_path):
    for name in ["tiny", "other"]:
        install(tmp_path, name)
    server = serve("--default-model", "tiny", models=tmp_path)
    page = visit("#seed=7&samples=hospital_0_normal", at=server)
    page.shows(variants=3, tiles=1)
    assert "model" not in page.page.url
    page.page.locator("#model").select_option("other/1")
    page.shows(variants=3, tiles=1)
    assert "model=other/1" in page.page.url
    page.variants.first.press("Enter")
    expect(page.page.locator("#zoom dl")).to_contain_text("other/1, ")
    page.page.get_by_role("button", name="Close").click()
    page.page.get_by_role("button", name="curl").click()
    expect(page.page.locator("#code-text")).to_contain_text('"model":"other/1"')


def test_the_size_of_a_pixel_is_asked_for_and_a_warning_stands_by_the_variant(visit, serve, tmp_path):
    install(tmp_path, familiar={"mpp": [0.25, 0.5]})
    page = visit("#seed=7&domains=south", at=serve(models=tmp_path))
    page.drop(a=png(tile(side=3 * SIDE)))
    page.shows(variants=1, tiles=1)
    unknown = page.picture(0)
    size = page.page.get_by_label("Size of a pixel, µm")
    size.fill("0.25")
    page.shows(variants=1, tiles=1)
    assert differ(page.picture(0), unknown) > 0 and "mpp=0.25" in page.page.url
    expect(page.page.locator(".delta")).not_to_contain_text("⚠")
    size.fill("40")
    page.shows(variants=1, tiles=1)
    expect(page.page.locator(".delta")).to_contain_text("⚠")
    page.variants.first.press("Enter")
    expect(page.page.locator("#zoom dl")).to_contain_text("knows tissue at 0.25 to 0.5")
    expect(page.page.locator("#zoom dl")).to_contain_text("windows")


def test_the_answer_to_an_older_choice_does_not_end_the_wait_for_the_newer(visit):
    page = visit(ONE)
    page.drop(a=png(tile()))
    page.shows(variants=1, tiles=1)
    shown, grid = page.variants.locator("img.is"), page.page.locator("#grid")
    before, held = shown.get_attribute("src"), []
    # Timers run out when the test says so; the page writes its summary when it is done with an answer.
    page.page.evaluate("""() => {
        window.setTimeout = (work) => { window.later = work; return 1; };
        const note = () => { window.summarised = true; };
        new MutationObserver(note).observe(document.querySelector("#summary"), { childList: true });
    }""")
    page.page.route("**/v1/augment", lambda route: route.continue_() if held else held.append(route))
    with page.page.expect_request("**/v1/augment"):
        page.slide(0.5)
        page.page.evaluate("() => { later(); }")
    # The page has not asked for it yet when the answer for .5 arrives.
    page.slide(0)
    held[0].continue_()
    expect(shown).not_to_have_attribute("src", before)
    page.page.wait_for_function("summarised")
    expect(grid).to_have_attribute("aria-busy", "true")
    expect(grid).to_have_class(re.compile("stale"))
    page.page.evaluate("() => { later(); }")
    page.shows(variants=1, tiles=1)
    expect(grid).not_to_have_class(re.compile("stale"))
    assert differ(page.picture(0), tile()) == 0


def test_tiles_of_one_slide_change_from_its_stain(visit):
    page = visit("#seed=7&domains=south")
    page.drop(a=png(tile(1)), b=png(tile(2)))
    page.shows(variants=2, tiles=2)
    alone = page.picture(0)
    page.page.get_by_label("The tiles are of one slide").check()
    page.shows(variants=2, tiles=2)
    assert differ(page.picture(0), alone) > 0 and "slide=1" in page.page.url
    page.page.get_by_role("button", name="curl").click()
    expect(page.page.locator("#code-text")).to_contain_text('"slide":"')
    page.page.get_by_role("button", name="Close").click()
    page.page.get_by_label("The tiles are of one slide").uncheck()
    page.shows(variants=2, tiles=2)
    assert differ(page.picture(0), alone) == 0


# What the server is doing, and what the page is


def test_the_figures_of_the_server_move(visit, serve):
    # Of a server of its own: beside what others have cached, one more tile may not be seen.
    page = visit("#seed=7&samples=", at=serve())
    holds = page.page.locator("#live div", has_text="cache size")
    expect(holds.locator("b")).not_to_have_text("–")
    before = holds.locator("b").text_content()
    points = holds.locator("polyline").get_attribute("points")
    page.drop(new=png(tile(seed=99)))
    page.shows(variants=3, tiles=1)
    expect(holds.locator("b")).not_to_have_text(before)
    expect(holds.locator("polyline")).not_to_have_attribute("points", points)
    expect(page.page.locator(".group small").first).to_contain_text("ms")
    parts = page.page.locator(".group .bar").first.locator("i").evaluate_all("parts => parts.map(part => part.getBoundingClientRect().width)")
    assert sum(parts) > 1


def test_the_page_is_one_file_that_lets_in_nothing_from_elsewhere(server, visit):
    page = visit()
    answer = page.page.request.get(server.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "http" not in policy
    assert "{{" not in answer.text(), "a part was not put in"
    page.shows(variants=9, tiles=3)


def test_larger_samples_keep_their_size_and_every_size_has_variants(visit):
    page = visit("#seed=7&domains=south&samples=hospital_0_normal_224,hospital_4_normal_512")
    page.shows(variants=2, tiles=2)
    assert [page.picture(place).shape for place in (0, 1)] == [(224, 224, 3), (512, 512, 3)]
    expect(page.page.get_by_role("button", name="hospital 4 normal, 512 px")).to_have_attribute("aria-pressed", "true")
    page.drop(small=png(tile(1)), narrow=png(tile(2, side=4 * SIDE)))
    page.shows(variants=4, tiles=4)
    expect(page.page.locator(".problem:visible")).to_have_count(0)


def test_a_variant_is_looked_at_closely_and_the_view_follows(visit):
    page = visit("#seed=7&domains=south&samples=hospital_4_normal_512")
    page.shows(variants=1, tiles=1)
    page.variants.first.press("Enter")
    stage, over = page.page.locator(".stage"), page.page.locator(".stage .over")
    expect(page.page.locator("#times-shown")).to_have_text("1×")
    page.page.locator("#times").fill("2")
    expect(page.page.locator("#times-shown")).to_have_text("4×")
    box = stage.bounding_box()
    assert over.bounding_box()["width"] == pytest.approx(4 * box["width"])
    # What lies under the pointer stays there, and so does the curtain.
    page.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    page.page.mouse.wheel(0, -100)
    expect(page.page.locator("#times-shown")).to_have_text("8×")
    expect(page.page.locator("#curtain-shown")).to_have_text("25 : 75")
    left = over.bounding_box()["x"] - box["x"]
    assert left == pytest.approx(-7 * 0.25 * box["width"], abs=8)
    stage.focus()
    page.page.keyboard.press("ArrowRight")
    assert over.bounding_box()["x"] - box["x"] == pytest.approx(-7 * 0.35 * box["width"], abs=8)
    page.page.get_by_role("button", name="Close").click()
    page.variants.first.press("Enter")
    expect(page.page.locator("#times-shown")).to_have_text("1×")
