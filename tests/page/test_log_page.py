"""The page of one log: curves first, then the answer; small, without a script, never empty."""

import html
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import analyze, read_curves, write_report
from analysis.answer.answer import Series, Todo, Unchecked
from analysis.page.log.curves import closer, panels_of
from analysis.page.log.drawing import Size, limits_of, picture, shared, thinned
from analysis.page.log.page import MOST_RUNS, render_log
from tests.page.answers import answer_of, curve, run_of, series, whole

HOSTILE = "</style><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
SIZE = Size(500, 200, 300)


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
        "<b>It jumps by 1.2 pp.</b> It does not fall.",
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
    falls = np.linspace(2, 1, 9)
    run = run_of(series("val_loss", falls, first=500, every=500), clock="step")
    (svg,) = pictures(page := render_log(answer_of(run)))
    assert [n.text for n in svg.iter() if n.text == "step"] == ["step"]
    assert "step 4,500" in page
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


@pytest.mark.parametrize("scale", [1e-4, 0.03, 0.3, 1.0, 7.0, 1e4])
def test_every_tick_has_a_number_of_its_own(scale):
    panel = panels_of(run_of(series("val_loss", scale * (1 + curve(30)))))[0]
    (svg,) = pictures(picture(panel, SIZE))
    labels = [n.text for n in svg.iter() if n.tag.endswith("text") and n.text != "epoch"]
    ends = [n.text for n in svg.iter() if n.get("text-anchor") == "end"]
    assert len(ends) >= 3
    assert len(ends) == len(set(ends)), labels


def test_no_line_leads_across_evaluations_that_are_missing():
    whole = series("val_accuracy", curve(30))
    at, values = list(whole.at), list(whole.values)
    del at[20:22], values[20:22]
    missing = replace(whole, at=tuple(at), values=tuple(values), best=0)
    (svg,) = pictures(picture(panels_of(run_of(missing))[0], SIZE))
    lines = [n.get("d", "") for n in svg.iter() if n.get("stroke") == "var(--blue)"]
    assert max(d.count("M") for d in lines) == 2
    at = [float(k * k) for k in range(28)]  # no distance is the usual one
    (panel,) = panels_of(run_of(replace(missing, at=tuple(at))))
    assert panel.lines["value"].null_count() == 0


def test_the_best_of_a_constant_metric_is_not_marked():
    page = render_log(answer_of(run_of(series("val_accuracy", [1.0] * 20))))
    assert "highest" not in page
    assert "var(--green)" not in page.split("</style>")[1]


def test_the_band_holds_what_a_still_network_does(simulation):
    """95 in 100 evaluations of a network that stands still lie in it, at the least."""
    rng, inside = simulation(5), []
    for num_val in (100, 2000):
        for accuracy in (0.6, 0.95):
            for _ in range(50):
                drawn = rng.binomial(num_val, accuracy, 60) / num_val
                panel = panels_of(run_of(series("val_accuracy", drawn), num_val=num_val))[0]
                assert panel.band is not None
                assert panel.band.height > 50
                in_band = pl.col("value").is_between("low", "high")
                joined = panel.validation.join(panel.band, on="x")
                inside.append(joined.select(in_band.mean()).item())
    assert 0.95 <= np.mean(inside) <= 0.99


def test_the_band_begins_where_most_is_learnt_and_needs_a_trend():
    values = [0.1, 0.3, 0.6, 0.8, 0.85, *(0.9 + 0.001 * np.sin(np.arange(60)))]
    (panel,) = panels_of(run_of(series("val_accuracy", values), num_val=1000))
    assert panel.band is not None
    assert 3 <= panel.band["x"][0] <= 8
    (short,) = panels_of(run_of(series("val_accuracy", values[:12]), num_val=1000))
    assert short.band is None


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("--num-val 589, which would fit", "<code>--num-val 589</code>, which would fit."),
        ("evaluate more often", "evaluate more often."),
        ("a()\nb()", "<pre><code>a()\nb()</code></pre>"),
    ],
)
def test_what_is_typed_looks_like_it(how, shown):
    page = render_log(answer_of(whole(9), unchecked=(Unchecked("a", "b", "c", how),)))
    assert f"To settle it: c: {shown}" in re.sub(r"\n(?=<pre>|<code>|[a-z]+ )", "", page)


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
    few, more = series("val_loss", np.linspace(1, 3, 10)), series("val_loss", np.linspace(2, 4, 20))
    loud = series("val_loss", np.linspace(1, 400, 10))
    alike = [run_of(few, name="a"), run_of(more, name="b")]
    first, second = shared([panels_of(run)[0] for run in alike])
    assert first == second
    assert first.x == (1, 20)
    assert first.y[0] < 1 < 4 < first.y[1]
    assert "scales differ" not in render_log(answer_of(*alike))
    unlike = [run_of(few, name="a"), run_of(loud, name="b")]
    first, second = shared([panels_of(run)[0] for run in unlike])
    assert first.x == second.x
    assert first.y[1] < 10 < second.y[1]
    assert "the pictures' scales differ" in html.unescape(render_log(answer_of(*unlike)))


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


def log_of(tmp_path, num_runs, header="epoch,val_acc"):
    for number in range(num_runs):
        rows = [f"{k},{100 * value:.2f}" for k, value in enumerate(curve(20, seed=number), 1)]
        (tmp_path / f"run_{number}.csv").write_text("\n".join([header, *rows]))
    return analyze(read_curves(sorted(tmp_path.glob("*.csv"))))


@pytest.mark.parametrize(
    ("num_runs", "header", "is_log_page"),
    [
        (1, "epoch,val_acc", True),
        (8, "epoch,val_acc", True),
        (9, "epoch,val_acc", False),
        (9, "epoch,val_loss", True),
    ],
)
def test_a_log_of_few_runs_or_without_accuracy_has_this_page(
    tmp_path, num_runs, header, is_log_page
):
    found = log_of(tmp_path, num_runs, header)
    page = write_report(found, tmp_path / "page.html").read_text("utf-8")
    assert ("<script" not in page) == is_log_page
    said = all(sentence in html.unescape(page) for sentence in found.answer.headline)
    assert said == is_log_page
