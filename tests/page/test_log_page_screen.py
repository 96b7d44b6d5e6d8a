"""The page of one log in a browser: the first screen, narrow, dark, on paper."""

import pytest

from analysis.page.log.page import render_log
from tests.page.answers import answer_of, whole


def opened(browser, tmp_path, answer, **context):
    """The page, and everything that it complained about or asked for."""
    page = browser.new_context(offline=True, **context).new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith("file:") else complaints.append(r.url))
    path = tmp_path / "page.html"
    path.write_text(render_log(answer), encoding="utf-8")
    page.goto(path.as_uri())
    return page, complaints


@pytest.mark.parametrize("num_runs", [1, 2, 4, 8])
def test_the_curves_and_the_answer_are_on_the_first_screen(browser, tmp_path, num_runs):
    runs = [whole(60, name=f"run {k}", num_val=1932) for k in range(num_runs)]
    screen = {"viewport": {"width": 1300, "height": 900}}
    page, complaints = opened(browser, tmp_path, answer_of(*runs), **screen)
    assert complaints == []
    for place in ("figure svg >> nth=0", ".headline", ".answer li >> nth=0"):
        box = page.locator(place).bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= 900, place


@pytest.mark.parametrize("num_runs", [1, 8])
def test_a_narrow_screen_needs_no_sideways_scrolling(browser, tmp_path, num_runs):
    runs = [whole(60, name=f"{'a-long-name-' * 9}{k}", num_val=1932) for k in range(num_runs)]
    page, _ = opened(browser, tmp_path, answer_of(*runs), viewport={"width": 400, "height": 800})
    for details in page.locator("details").all():
        details.evaluate("one => one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".headline").bounding_box()["y"] < 800


def test_the_page_follows_the_reader_into_the_dark_and_onto_paper(browser, tmp_path):
    page, _ = opened(browser, tmp_path, answer_of(whole(30)), color_scheme="light")
    line = "getComputedStyle(document.querySelector('svg path[stroke*=blue]')).stroke"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(line), page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(line), page.evaluate(ground)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
