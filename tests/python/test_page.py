"""The page at /, as a visitor with a browser meets it."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from browser import browser, decode, differ, png, visit  # noqa: F401, of which two are fixtures
from PIL import Image
from playwright.sync_api import expect
from served import SIDE, tiles

DOMAINS = ["north", "south", "west"]
# One tile and one domain: one variant, which is the picture that is looked at.
ONE = "#seed=7&domains=south"


def tile(seed=1, side=SIDE):
    return tiles(1, side, seed)[0]


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
    page.slide(0.5)
    page.shows(variants=1, tiles=1)
    half = page.picture(0)
    page.slide(0)
    page.shows(variants=1, tiles=1)
    assert differ(page.picture(0), tile()) < 1
    assert 1 < differ(half, tile()) < differ(whole, tile())
    expect(page.page.locator(".delta")).to_have_text("Δ 0.0")


def test_a_new_seed_draws_other_styles_and_the_old_one_the_old(visit):
    page = visit("#seed=7&samples=hospital_0_normal&variants=3")
    page.shows(variants=9, tiles=1)
    first = [page.picture(place) for place in range(9)]
    page.page.get_by_role("button", name="New").click()
    page.shows(variants=9, tiles=1)
    assert any(differ(page.picture(place), first[place]) > 0 for place in range(9))
    page.page.get_by_label("Seed").fill("7")
    page.shows(variants=9, tiles=1)
    assert all(differ(page.picture(place), first[place]) == 0 for place in range(9))


def test_color_match_stands_beside_the_model_with_the_same_style(visit):
    page = visit("#seed=7&samples=hospital_0_normal,hospital_1_tumour")
    page.page.get_by_label("color-match beside it").check()
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
    expect(page.page.locator(".group .label span:first-child")).to_have_text(["south/1", "mixture", "west/2"])
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
        with page.page.expect_request("**/v1/augment") as held:
            page.slide(0.9)
        held.value
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
    order = ["file", "strength", "from", "all", "listbox", "method", "variants", "seed", "draw", "resize", "view", "compare", "curl", "variant"]
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


# Taking it along


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
    page.page.get_by_role("button", name="Resize it").click()
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


# When something is wrong


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


def test_a_tile_of_another_size_is_explained_and_one_press_resizes_it(visit):
    page = visit(ONE)
    page.drop(large=png(tile(side=SIDE + 8)))
    problem = page.page.locator(".row .problem")
    expect(problem).to_contain_text(f"This tile is {SIDE + 8}×{SIDE + 8} pixels, and the model works on {SIDE}×{SIDE}")
    problem.get_by_role("button", name="Resize it").click()
    page.shows(variants=1, tiles=1)
    expect(page.page.get_by_label("Resize tiles of another size")).to_be_checked()
    assert page.picture(0).shape == (SIDE + 8, SIDE + 8, 3), "and back"


def test_a_choice_that_cannot_be_made_is_explained(visit):
    page = visit(ONE + "&samples=hospital_0_normal")
    page.shows(variants=1, tiles=1)
    problem = page.page.get_by_role("alert")
    page.page.get_by_role("button", name="none").click()
    expect(problem).to_contain_text("No domain is chosen")
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
    expect(page.page.get_by_role("button", name="by itself in")).to_be_visible()
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


# What the server is doing, and how all of it looks


def test_the_figures_of_the_server_move(visit):
    page = visit("#seed=7&samples=")
    holds = page.page.locator("#live div", has_text="cache holds")
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


SCREENS = {"wide": (1360, 900), "phone": (390, 844), "narrow": (360, 740)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_it_fits_every_screen_and_can_be_read_in_both_schemes(visit, screen, scheme):
    width, height = SCREENS[screen]
    page = visit("#seed=7&ids=north/0,west/1", viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=screen != "wide")
    page.shows(variants=9, tiles=3)
    page.drop(bad=b"no picture", good=png(tile()))
    page.shows(variants=3, tiles=1)
    page.page.get_by_role("radio", name="Difference").check(force=True)
    page.page.locator("#more").evaluate("more => { more.open = true; }")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    faint = page.page.evaluate(CONTRASTS)
    assert not faint, f"too little contrast: {faint}"
    page.variants.locator(".picture").first.click()
    expect(page.page.locator("#zoom")).to_be_visible()
    expect(page.page.locator("#zoom").get_by_label("Difference")).to_be_checked()
    assert page.page.locator("#zoom").evaluate("zoom => zoom.scrollWidth <= zoom.clientWidth")


# Every text that is seen whose colour has less contrast to what is behind it than WCAG 2.2 asks for, 4.5 to 1.
CONTRASTS = """() => {
    const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return pen.getImageData(0, 0, 1, 1).data;
    };
    const luminance = (rgb) => {
        const linear = [...rgb].slice(0, 3).map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = rgba(getComputedStyle(at).backgroundColor);
            if (colour[3] > 200) return colour;
        }
        return [255, 255, 255, 255];
    };
    const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.getClientRects().length;
    const texts = [...document.querySelectorAll("body *")].filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    const faint = [];
    for (const element of texts.filter((element) => seen(element) && !element.closest("script, :disabled, dialog, .overruled, option"))) {
        const style = getComputedStyle(element), drawn = element instanceof SVGElement ? style.fill : style.color;
        const [a, b] = [luminance(rgba(drawn)), luminance(behind(element))].sort((a, b) => b - a);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) faint.push([element.textContent.slice(0, 30), contrast.toFixed(2)]);
    }
    return faint;
}"""


def test_the_page_is_one_file_that_lets_in_nothing_from_elsewhere(server, visit):
    page = visit()
    answer = page.page.request.get(server.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "http" not in policy
    assert "{{" not in answer.text(), "a part was not put in"
    page.shows(variants=9, tiles=3)
