"""The page of one log: curves first, then the answer; small, without a script, never empty."""

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.answer.answer import Answer, RunAnswer, Series, Todo, Unchecked
from analysis.page.log.curves import closer, panels_of
from analysis.page.log.drawing import Size, limits_of, picture, shared, thinned
from analysis.page.log.page import MOST_RUNS, render_log

HOSTILE = "</style><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
SIZE = Size(500, 200, 300)
WORDS = {
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    "val_score": "validation F1",
    "train_accuracy": "training accuracy",
    "train_accuracy_running": "training accuracy, while training",
    "train_loss_running": "training loss, while training",
}


def series(role, values, *, first=1, every=1, lower=None):
    values = np.asarray(values, float)
    lower = "loss" in role if lower is None else lower
    finite = np.flatnonzero(np.isfinite(values))
    best = None
    if len(finite):
        best = int(finite[(np.argmin if lower else np.argmax)(values[finite])])
    at = tuple(float(first + every * k) for k in range(len(values)))
    is_share = "accuracy" in role
    return Series(role, role, WORDS[role], is_share, lower, at, tuple(values.tolist()), best)


def run_of(*some, name="mine", num_val=None, clock="epoch"):
    return RunAnswer(
        name=name,
        settings={},
        findings=(),
        open=(),
        labels={},
        headline=(f"What {name} says.", "How sure that is."),
        do=(),
        unchecked=(),
        series=tuple(some),
        clock=clock,
        num_evaluations=max((len(one.values) for one in some), default=0),
        num_val=num_val,
    )


def answer_of(*runs, **said):
    fields: dict[str, Any] = {
        "name": "log",
        "tool": "CSV",
        "headline": ("It jumps by 1.2 pp.", "It does not fall."),
        "do": (Todo("Keep epoch 7.", "0.4 pp better"), Todo("Stop there.")),
        "unchecked": (
            Unchecked("the gap", "no training metric", "log it in eval mode", "a()\nb()"),
        ),
        "read": (("validation accuracy", "val_acc"),),
        "notes": ("epoch 0 is the first",),
        "runs": runs,
    }
    return Answer(**(fields | said))


def curve(num, *, accuracy=0.9, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    learnt = 1 - np.exp(-np.arange(1, num + 1) / 4)
    return np.clip(accuracy * learnt + noise * rng.standard_normal(num), 0, 1)


def whole(num, **given):
    """A run with everything that can be drawn."""
    accuracy = curve(num, seed=1)
    return run_of(
        series("val_accuracy", accuracy),
        series("val_loss", 0.3 + np.abs(np.linspace(-1, 1, num))),
        series("train_accuracy_running", curve(num, accuracy=0.99, seed=2)),
        series("train_loss_running", np.linspace(1, 0, num)),
        **given,
    )


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def pictures(page):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def points(svg, colour):
    """How many points the lines of a colour have."""
    lines = [n.get("d", "") for n in svg.iter() if n.get("stroke") == f"var(--{colour})"]
    return sum(len(re.findall("[ML]", d)) for d in lines if "A" not in d)


def numbers(svg):
    texts = [node.text or "" for node in svg.iter() if node.tag.endswith("text")]
    return [float(t.replace("−", "-").replace(",", "")) for t in texts if re.match("[−0-9]", t)]


def test_the_curves_come_first_then_the_answer_then_the_rest():
    page = render_log(answer_of(whole(30)))
    order = [
        "<svg",
        "It jumps by 1.2 pp. It does not fall.",
        "What to do",
        "Keep epoch 7.",
        "What could not be checked",
        "What was read as what",
        "Details",
    ]
    places = [page.index(one) for one in order]
    assert places == sorted(places)
    assert page == render_log(answer_of(whole(30)))


@pytest.mark.parametrize(("num_runs", "length"), [(1, 20), (1, 5000), (8, 60), (8, 1000), (40, 30)])
def test_a_page_is_small_and_needs_nothing(num_runs, length):
    runs = [whole(length, name=f"run {k}", num_val=1000) for k in range(num_runs)]
    page = render_log(answer_of(*runs))
    assert len(page.encode()) <= 150_000
    assert "default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;" in page
    assert not re.search(r"<(script|img|link|iframe)|\s(src|href|on\w+)=", page)
    drawn = min(num_runs, MOST_RUNS)
    assert page.count("What run ") == (num_runs if num_runs > 1 else 0)
    assert len(pictures(page)) >= 2 * drawn


def test_the_whole_curve_is_drawn_from_its_first_evaluation():
    run = run_of(series("val_accuracy", curve(50), first=0), series("val_loss", curve(50)))
    panel, loss = panels_of(run)
    assert limits_of(panel).x == (0, 49)
    low, high = limits_of(panel).y
    assert low <= 100 * min(run.series[0].values)
    assert high >= 100 * max(run.series[0].values)
    assert [points(svg, "blue") for svg in pictures(picture(panel, SIZE))] == [50]
    assert loss.series.role == "val_loss"


def test_steps_are_the_clock_where_the_log_counts_steps():
    panel = panels_of(run_of(series("val_loss", curve(9), first=500, every=500), clock="step"))[0]
    (svg,) = pictures(picture(panel, SIZE))
    assert [n.text for n in svg.iter() if n.text == "step"] == ["step"]
    assert max(numbers(svg)) >= 4000


def test_the_minimum_of_the_loss_is_marked_and_told_in_the_logs_epochs():
    loss = np.abs(np.arange(20) - 7.0) + 0.25
    page = render_log(answer_of(run_of(series("val_loss", loss, first=0))))
    assert "lowest: 0.25, epoch 7" in text_of(page)
    (svg,) = pictures(page)
    rings = [n for n in svg.iter() if n.get("stroke") == "var(--green)"]
    assert len(rings) == 1


def test_nothing_is_told_of_what_is_not_there():
    bare = text_of(render_log(answer_of(run_of(series("val_accuracy", curve(30))))))
    assert "while training" not in bare
    assert "examples alone" not in bare
    full = text_of(render_log(answer_of(whole(30, num_val=1932))))
    assert "training accuracy, while training" in full
    assert "noise of 1,932 examples alone, at most" in full


def test_the_band_holds_what_a_still_network_does(simulation):
    """95 in 100 evaluations of a network that stands still lie in it, at the least."""
    rng, inside = simulation(5), []
    for num_val in (100, 2000):
        for accuracy in (0.6, 0.95):
            for _ in range(50):
                drawn = rng.binomial(num_val, accuracy, 60) / num_val
                panel = panels_of(run_of(series("val_accuracy", drawn), num_val=num_val))[0]
                assert panel.band is not None
                in_band = pl.col("value").is_between("low", "high")
                joined = panel.validation.join(panel.band, on="x")
                inside.append(joined.select(in_band.mean()).item())
    assert 0.95 <= np.mean(inside) <= 0.99


def test_no_share_leaves_0_to_100():
    top = np.minimum(1, curve(40, accuracy=1.0))
    page = render_log(answer_of(run_of(series("val_accuracy", top), num_val=50)))
    for svg in pictures(page):
        assert max(numbers(svg)) <= 100
    for panel in panels_of(run_of(series("val_accuracy", top), num_val=50)):
        assert panel.band is not None
        assert panel.band.select(pl.all_horizontal(pl.col("high") <= 100).all()).item()


def test_another_score_has_its_own_unit_and_no_word_of_accuracy():
    said = {"read": (("validation score", "val_f1"),)}
    run = run_of(series("val_score", curve(30)), series("val_loss", curve(30)))
    page = text_of(render_log(answer_of(run, **said)))
    assert "Validation F1 highest: 0." in page
    assert "accuracy" not in page.lower()
    assert "%" not in page


def test_a_closer_look_is_taken_where_the_beginning_hides_the_end():
    values = [0.1, 0.5, 0.8, *(0.9 + 0.002 * np.sin(np.arange(60)))]
    panel = panels_of(run_of(series("val_accuracy", values)))[0]
    near = closer(panel)
    assert near is not None
    assert near.start == 4
    low, high = limits_of(near).y
    assert high - low < 0.6
    assert closer(near) is None
    flat = panels_of(run_of(series("val_accuracy", np.linspace(0.1, 0.9, 60))))[0]
    assert closer(flat) is None


def test_runs_that_are_alike_share_their_scales_and_others_do_not():
    def panel(values):
        return panels_of(run_of(series("val_loss", values)))[0]

    ones, others = panel(np.linspace(1, 3, 10)), panel(np.linspace(2, 4, 20))
    limits = shared([ones, others])
    assert limits is not None
    assert limits.x == (1, 20)
    assert limits.y[0] < 1 < 4 < limits.y[1]
    assert shared([ones, panel(np.linspace(1, 400, 10))]) is None


@pytest.mark.parametrize("length", [1, 700, 5000])
def test_a_long_line_keeps_its_lowest_and_highest_of_each_pixel(length):
    values = np.random.default_rng(3).standard_normal(length)
    line = pl.DataFrame({"x": np.arange(length) * 1.0, "line": "validation", "value": values})
    few = thinned(line, 300)
    assert few.height == min(length, 600)
    assert few["x"].is_sorted()
    assert (few["value"].min(), few["value"].max()) == (values.min(), values.max())


def test_a_missing_evaluation_breaks_the_line_and_all_missing_is_no_panel():
    broken = run_of(
        series("val_accuracy", [0.1, 0.2, np.nan, 0.4, 0.5]), series("val_loss", [np.nan] * 5)
    )
    (panel,) = panels_of(broken)
    (svg,) = pictures(picture(panel, SIZE))
    lines = [n.get("d", "") for n in svg.iter() if n.get("stroke") == "var(--blue)"]
    assert max(d.count("M") for d in lines) == 2
    assert "<figure" not in render_log(answer_of(run_of(series("val_loss", [np.nan] * 5))))
    assert "It jumps" in render_log(answer_of())


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=40),
    training=st.lists(st.floats(width=32), min_size=1, max_size=40),
    num_val=st.none() | st.integers(1, 10**9),
)
def test_whatever_a_log_holds_there_is_a_page(values, training, num_val):
    shares = np.clip(np.nan_to_num(np.array(values), nan=0.5), 0, 1)
    num = min(len(values), len(training))
    run = run_of(
        series("val_accuracy", shares),
        series("val_loss", values),
        series("train_loss_running", training[:num]),
        num_val=num_val,
    )
    page = render_log(answer_of(run))
    assert len(pictures(page)) >= 1
    assert "NaN" not in page
    assert "undefined" not in page
    assert "clip" not in page  # its name would be another one's on the same page


def test_hostile_strings_stay_text():
    run = whole(12, name=HOSTILE)
    strange = Series(HOSTILE, HOSTILE, HOSTILE, False, False, (1.0, 2.0), (1.0, 2.0), 0)
    page = render_log(
        answer_of(
            replace(run, series=(*run.series, strange)),
            run,
            name=HOSTILE,
            tool=HOSTILE,
            headline=(HOSTILE,),
            do=(Todo(HOSTILE, HOSTILE),),
            unchecked=(Unchecked(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
            read=((HOSTILE, HOSTILE),),
            notes=(HOSTILE,),
        )
    )
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("</style>") == 1


# --- in a browser


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
