"""The page: whole in one file, inert to what it is fed, drawn by a browser without a network."""

import re
from dataclasses import replace

import polars as pl
import pytest

from analysis import analyze, write_report
from analysis.page.report import bundle, columns_of, render
from raysweep.errors import InputError
from tests.support.simulated import Curve, Sweep, batch_size_like, digits_like, practitioner, spec

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    return analyze(digits_like().write(root, practitioner, diverged=[0], failed=[4], missing=[10]))


@pytest.fixture(scope="module")
def page(digits):
    return render(digits)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A sweep in which every string that a person chose is an attack."""
    root = tmp_path_factory.mktemp("hostile")
    sweep = Sweep(spec("x", axes={"optimizer": ["sgd", "adam"], "width": [8, 16, 32, 64]}, seeds=1))
    record = sweep.record()

    class Hostile(Sweep):
        def record(self):
            record["spec"] |= {"name": HOSTILE, "task": HOSTILE}
            record["spec"]["axes"]["optimizer"] = [HOSTILE, "adam\u2028"]
            for point in record["configurations"].values():
                point["optimizer"] = HOSTILE if point["optimizer"] == "sgd" else "adam\u2028"
            return record | {
                "command": [HOSTILE],
                "git_commit": HOSTILE,
                "versions": {HOSTILE: "1"},
            }

    return analyze(Hostile(sweep.spec).write(root, lambda trial: Curve(), failed=[3]))


def test_the_same_store_gives_the_same_bytes(tmp_path, digits, page):
    written = write_report(digits, tmp_path / "report.html")
    assert written.read_bytes() == page.encode()
    assert list(tmp_path.iterdir()) == [written]
    assert len(page) < 2_000_000


def test_the_page_asks_nothing_of_the_network(page):
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=", page.replace(bundle(), ""))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe-eval" not in policy[1]
    assert "unsafe-inline" not in policy[1].split("script-src")[1].split(";")[0]


def test_the_page_answers_first_and_names_what_is_missing(page):
    text = re.sub(r"<[^>]+>", " ", page.split("<script")[0])
    assert text.index("accuracy moves by") < text.index("What to do") < text.index("on a map")
    assert re.search(r"1 diverged, 1 failed, 1 not yet trained", text)
    assert re.search(r"trials missing\s+1:", text)
    assert re.search(r"trials failed\s+1: 1 x RuntimeError: out of memory", text)


def test_what_can_not_be_computed_is_not_there(tmp_path):
    sweep = Sweep(spec("short", axes={}, epochs=2, seeds=1))
    page = render(analyze(sweep.write(tmp_path, lambda trial: Curve())))
    for name in ("map", "effects"):
        assert f'id="{name}"' not in page
    assert 'id="curves"' in page
    assert "Jitter takes 11 epochs or more" in page


def test_hostile_strings_can_not_end_a_script_or_start_a_tag(hostile):
    page = render(hostile).replace(bundle(), "")
    assert HOSTILE not in page
    assert "<img" not in page
    assert "\u2028" not in page.split("</main>")[1]
    assert page.count("<script") == page.count("</script>") == 4


def test_numbers_that_are_not_finite_are_counted_and_become_null():
    frame = pl.DataFrame({"x": [1.0, float("nan"), float("inf"), None]})
    data, num_unfinite = columns_of({"t": frame})
    assert data["t"]["x"] == [1.0, None, None, None]
    assert num_unfinite == 2


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path, digits):
    with pytest.raises(InputError, match="can't be written"):
        write_report(digits, tmp_path / "no" / "report.html")


# --- in a browser


def opened(browser, analysis, path):
    """The drawn page and everything that it complained about."""
    context = browser.new_context(offline=True, viewport={"width": 1240, "height": 900})
    page = context.new_page()
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(("file:", "blob:", "data:")) else complaints.append(r.url)
        ),
    )
    page.goto(write_report(analysis, path).as_uri())
    page.wait_for_selector("html[data-drawn=yes]", state="attached", timeout=30_000)
    return page, complaints


def test_a_browser_draws_every_figure_without_complaint(browser, digits, tmp_path):
    page, complaints = opened(browser, digits, tmp_path / "report.html")
    assert complaints == []
    charts = page.locator(".chart")
    assert charts.count() >= 5
    for i in range(charts.count()):
        marks = charts.nth(i).locator(
            "svg .mark-rect path, svg .mark-symbol path, svg .mark-line path, svg .mark-rule line"
        )
        assert marks.count() > 5, charts.nth(i).get_attribute("id")
        label = charts.nth(i).locator("svg, [aria-label]").first
        assert label.count() == 1
    assert page.locator(".cell").count() == 36
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    smallest = """Math.min(...[...document.querySelectorAll('svg text')].filter(t => t.textContent)
        .map(t => t.getBoundingClientRect().height).filter(h => h > 0))"""
    assert page.evaluate(smallest) >= 9


def test_the_keyboard_reaches_every_cell_and_opens_its_curves(browser, digits, tmp_path):
    page, complaints = opened(browser, digits, tmp_path / "report.html")
    before = page.locator("#choose-1").input_value()
    cell = page.locator(".cell").nth(20)
    page.locator(".cell").nth(19).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.id") == cell.get_attribute("data-id")
    page.keyboard.press("Enter")
    page.wait_for_function("id => document.getElementById('choose-1').value !== id", arg=before)
    assert page.locator("#choose-1").input_value() == cell.get_attribute("data-id")
    chosen = page.locator("#choose-1 option:checked").inner_text()
    page.wait_for_function(
        "text => document.querySelector('#curves-0').textContent.includes(text)", arg=chosen
    )
    page.locator("#choose-0").select_option(index=3)
    assert complaints == []


def test_the_map_shows_what_is_chosen(browser, digits, tmp_path):
    page, complaints = opened(browser, digits, tmp_path / "report.html")
    page.locator("#shows").select_option("jitter")
    jitters = dict(digits.configurations.select("config_id", "hf_sd").iter_rows())
    for cell in page.locator(".cell").all():
        sd = jitters[cell.get_attribute("data-id")]
        if sd is not None:
            assert cell.inner_text() == f"{100 * sd:.2f}"
    page.locator("#shows").select_option("verdict")
    assert page.locator(".cell.toned").count() == 0
    assert complaints == []


def test_the_table_sorts_filters_and_is_downloaded(browser, digits, tmp_path):
    page, complaints = opened(browser, digits, tmp_path / "report.html")
    heads = page.locator("#all thead th").all_inner_texts()
    column = next(i for i, head in enumerate(heads) if head.startswith("jitter"))
    page.locator("#all thead th").nth(column).locator("button").click()
    values = page.locator(f"#all tbody tr td:nth-child({column + 1})")
    seen = [float(t.split()[0]) for t in values.all_inner_texts() if t != "–"]
    assert seen == sorted(seen, reverse=True)
    page.locator("#filter").fill("batch 512")
    visible = page.locator("#all tbody tr:visible")
    assert visible.count() == 12
    with page.expect_download() as download:
        page.locator("#csv").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 13
    assert lines[0].startswith('"setting"')
    with page.expect_download() as drawn:
        page.locator(".save button").first.click()
    svg = drawn.value.path().read_text()
    assert svg.startswith("<svg")
    assert "var(" not in svg
    assert complaints == []


@pytest.mark.parametrize("width", [400, 1300])
def test_nothing_is_wider_than_the_screen(browser, digits, tmp_path, width):
    path = write_report(digits, tmp_path / "report.html")
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn=yes]", state="attached", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    drawn = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.chart')].map(c => c.scrollWidth))"
    )
    assert drawn <= width


def test_without_scripts_the_answer_and_its_picture_are_there(browser, digits, tmp_path):
    path = write_report(digits, tmp_path / "report.html")
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 1300, "height": 900}
    )
    page = context.new_page()
    page.goto(path.as_uri())
    box = page.locator(".still .wide svg").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900
    assert page.locator(".do li").count() > 0
    assert page.locator(".cell").count() == 36


def test_the_page_tells_no_host_and_no_folder(digits):
    record = digits.record | {"command": ["/home/me/.venv/bin/raysweep", "run", "/home/me/x.yaml"]}
    page = render(replace(digits, record=record)).replace(bundle(), "")
    assert "node-1" not in page
    assert "/home/me" not in page
    assert "raysweep run x.yaml" in page


def test_the_page_follows_the_reader_into_the_dark_and_onto_paper(browser, digits, tmp_path):
    page, _ = opened(browser, digits, tmp_path / "report.html")
    colour = "getComputedStyle(document.querySelector('#curves-0 .role-axis-label text')).fill"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) != light
    page.emulate_media(color_scheme="dark", media="print")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"


def test_hostile_strings_do_nothing_in_a_browser(browser, hostile, tmp_path):
    page, complaints = opened(browser, hostile, tmp_path / "report.html")
    assert complaints == []
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("h1").inner_text()


def test_a_small_sweep_shows_all_its_configurations_at_once(browser, tmp_path):
    analysis = analyze(batch_size_like().write(tmp_path / "store", practitioner))
    page, complaints = opened(browser, analysis, tmp_path / "report.html")
    assert complaints == []
    assert page.locator("#choose-0").count() == 0
    assert page.locator(".said p").count() == 6
