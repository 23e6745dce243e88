"""The page at / on screens of several sizes, light and dark."""

import pytest
import requests
from browser import browser, png, tile, visit  # noqa: F401, of which two are fixtures
from playwright.sync_api import expect

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


def test_five_domains_by_two_methods_fit_a_laptop_and_their_names_are_seen_whole(visit, serve):
    server = serve()
    for domain in ["east", "far_hospital"]:
        form = {"domain": (None, domain), "tile": ("tile.png", png(tile()), "image/png")}
        requests.post(f"{server.url}/v1/styles", files=form).raise_for_status()
    page = visit("#seed=7&samples=hospital_0_normal", at=server, viewport={"width": 1366, "height": 768})
    page.shows(variants=5, tiles=1)
    cut = "labels => labels.filter((label) => label.scrollWidth > label.clientWidth).map((label) => label.textContent)"
    assert page.page.locator("#grid .label span").evaluate_all(cut) == []
    page.page.get_by_label("Compare with color-match").check()
    page.shows(variants=10, tiles=1)
    assert page.page.locator("#grid :is(.label, .methods) span").evaluate_all(cut) == []
    # Fifteen pixels are those of a scroll bar beside the page.
    assert page.page.locator("#scroll").evaluate("scroll => scroll.clientWidth - scroll.scrollWidth") >= 0
    assert page.page.locator("#grid").evaluate("grid => parseFloat(getComputedStyle(grid).minWidth) + 15 <= grid.clientWidth")


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
