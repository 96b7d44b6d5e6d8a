"""What a log says: sentences, what to do, what is open; in the terminal, as JSON, in a notebook."""

import html
import json
import re
from importlib import resources

import numpy as np
import polars as pl
import pytest

from analysis import analyze, diagnose, read_curves
from analysis.answer.answer import Finding
from analysis.answer.text import spark
from raysweep.errors import InputError
from tests.support.simulated import Sweep, practitioner, spec

T = 60
TIME = np.arange(T)
SCHEMA = json.loads(
    resources.files("analysis.answer").joinpath("answer.schema.json").read_text("utf-8")
)
METRICS = {  # name in a log -> level at the start, and at the best; its word in a sentence
    "val_mAP50": (0.1, 0.62, "mAP"),
    "val/mIoU": (0.2, 0.71, "mIoU"),
    "val_f1": (0.3, 0.8, "F1"),
    "val_r2": (-0.4, 0.9, "R²"),
    "val_wer": (0.9, 0.12, "WER"),
    "val_rmse": (9.0, 2.5, "RMSE"),
    "eval_perplexity": (90.0, 14.0, "perplexity"),
}


def curve(start, best, *, fall=0.0, peak=20, noise=0.0, seed=0):
    """From a start to a best level, then back by a share of the way; noise is a share, too."""
    rng = np.random.default_rng(seed)
    way = (1 - np.exp(-TIME / 4)) - fall * np.clip(TIME - peak, 0, None) / (T - peak)
    return start + (best - start) * (way + noise * rng.standard_normal(T))


def log(path, **columns):
    names = ["epoch", *columns]
    rows = zip(TIME + 1, *columns.values(), strict=True)
    lines = [",".join(names), *[",".join(f"{value:.6g}" for value in row) for row in rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def checked(value, schema, where="$"):
    """The few words of JSON Schema that ours uses."""
    if "$ref" in schema:
        return checked(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    assert not wanted or any(isinstance(value, kinds[one]) for one in wanted), where
    assert value in schema.get("enum", [value]), where
    assert value == schema.get("const", value), where
    if isinstance(value, dict):
        known = schema.get("properties", value)
        assert set(schema.get("required", ())) <= set(value) <= set(known), where
        for key, one in value.items():
            checked(one, known[key] if "properties" in schema else {}, f"{where}.{key}")
    if isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), where
        for place, one in enumerate(value):
            checked(one, schema.get("items", {}), f"{where}[{place}]")
    return None


def answers(tmp_path):
    """Answers of every kind: an accuracy, a loss, a score, several runs, odd ones, a sweep."""
    accuracy = curve(0.5, 0.9, noise=0.01)
    yield diagnose(accuracy, num_val=1000)
    yield diagnose(val_loss=curve(2.0, 0.5, fall=0.4, noise=0.005), train_loss=curve(2, 0.1))
    yield diagnose(val_score=accuracy, lower_is_better=False)
    yield diagnose([0.5, 0.6, 0.7])
    yield diagnose([0.5])
    yield diagnose([1.0] * 30)
    yield diagnose([*accuracy[:20], float("nan")])
    path = log(tmp_path / "a.csv", val_accuracy=accuracy, val_wer=curve(0.9, 0.1))
    other = log(tmp_path / "b.csv", val_accuracy=curve(0.5, 0.9, fall=0.5, noise=0.01))
    yield analyze(read_curves([path, other])).answer
    yield analyze(
        Sweep(spec("s", axes={"dropout": [0.0, 0.5]}, epochs=30)).write(
            tmp_path / "s", practitioner
        )
    ).answer


def test_every_answer_is_what_the_schema_says_and_can_be_shown(tmp_path):
    for answer in answers(tmp_path):
        told = json.loads(json.dumps(answer.as_dict(), allow_nan=False))
        checked(told, SCHEMA)
        assert len(answer.do) <= 5
        assert answer.headline
        assert str(answer) == answer.as_text()
        assert "nan" not in str(answer).replace("nan ", "")
        page = answer._repr_html_()
        assert html.escape(answer.headline[0]) in page
        assert "<script" not in page


def test_the_schema_names_all_findings():
    assert SCHEMA["$defs"]["finding"]["enum"] == [str(one) for one in Finding]


@pytest.mark.parametrize("name", METRICS)
def test_a_score_alone_is_answered_in_its_own_unit_without_a_word_of_accuracy(tmp_path, name):
    start, best, word = METRICS[name]
    worse = curve(start, best, fall=0.4, noise=0.01)
    path = log(tmp_path / "c.csv", **{name: worse, "train_loss": curve(2, 0.1)})
    answer = analyze(path).answer
    (run,) = answer.runs
    assert Finding.OVERFITTING in run.findings
    assert word in answer.headline[0]
    assert run.series[0].lower_is_better == (best < start)
    at = run.checkpoint.keep
    assert 8 <= at <= 36  # near the peak, whatever its luck
    for text in (str(answer), answer._repr_html_(), json.dumps(answer.as_dict())):
        assert "accuracy" not in re.sub(r"train_accuracy|val_accuracy", "", text)
        assert not re.search(r"\bpp\b", text)
    held = log(tmp_path / "d.csv", **{name: curve(start, best, noise=0.01)})
    (run,) = analyze(held).answer.runs
    assert Finding.OVERFITTING not in run.findings


def test_a_loss_alone_that_rises_overfits_and_one_that_falls_does_not(tmp_path):
    rising = curve(2.5, 0.9, fall=0.3, noise=0.004)
    path = log(tmp_path / "c.csv", val_loss=rising, train_loss=curve(2.5, 0.05))
    answer = analyze(path).answer
    assert answer.headline[0].startswith("It overfits: validation loss is lowest near epoch")
    assert answer.runs[0].loss_minimum == pytest.approx(TIME[rising.argmin()] + 1)
    assert "pp" not in str(answer)
    assert "accuracy" not in str(answer)
    falling = log(tmp_path / "d.csv", val_loss=curve(2.5, 0.9, noise=0.004))
    assert Finding.OVERFITTING not in analyze(falling).answer.findings


def test_where_loss_and_accuracy_disagree_both_are_said_and_the_advice_follows_the_accuracy():
    accuracy = 0.4 + 0.2 * (1 - np.exp(-TIME / 15)) + 0.004 * np.sin(TIME * 2.3)
    loss = 4.2 + 1.2 * (1 - np.exp(-TIME / 15)) + 0.03 * np.cos(TIME * 1.7)
    answer = diagnose(accuracy, val_loss=loss, train_loss=curve(5, 1), num_val=2000)
    assert answer.headline[0].startswith("Loss and accuracy disagree: validation loss is lowest")
    assert "(epoch 60)" in answer.headline[0]
    assert answer.do[0].text == "Judge by the accuracy, not by the loss."
    assert "would cost" in answer.do[0].effect
    (run,) = answer.runs
    assert Finding.LOSS_RISES in run.findings
    assert Finding.OVERFITTING not in run.findings
    assert run.checkpoint.keep > 30


def test_a_rising_loss_under_an_accuracy_that_stands_still_is_overfitting():
    accuracy = curve(0.45, 0.5, noise=0.1)
    loss = curve(2.2, 1.8, noise=0.02) + 0.015 * np.clip(TIME - 5, 0, None)
    answer = diagnose(accuracy, val_loss=loss, train_accuracy=curve(0.2, 0.95), num_val=2000)
    assert answer.headline[0].startswith("It overfits by the loss")
    assert Finding.OVERFITTING in answer.findings


def test_jitter_is_told_in_examples_where_their_number_is_known():
    accuracy = curve(0.5, 0.9, noise=0.03)
    assert re.search(r"\d+ of 1,000 examples", diagnose(accuracy, num_val=1000).headline[1])
    unknown = diagnose(np.round(accuracy * 1932) / 1932)
    assert "examples" in unknown.headline[1]
    (asked,) = [one for one in unknown.unchecked if "network or the validation set" in one.what]
    assert asked.how == "num_val=1932, which would fit all accuracies"


def test_more_than_one_run_is_a_line_each_worst_first(tmp_path):
    falls = {0: 0.0, 1: 0.5, 2: 0.0, 3: 0.0}
    paths = [
        log(tmp_path / f"r{n}.csv", val_accuracy=curve(0.5, 0.9, fall=fall, noise=0.01, seed=n))
        for n, fall in falls.items()
    ]
    answer = analyze(read_curves(paths)).answer
    assert answer.runs[0].name == "r1"
    assert "overfitting in 1 (r1)" in answer.headline[0]
    assert sum(line.startswith("r") for line in str(answer).splitlines()) == 4


def test_a_missing_epoch_is_no_reason_to_say_too_few(tmp_path):
    path = log(tmp_path / "c.csv", val_accuracy=curve(0.5, 0.9, noise=0.02))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-3] + lines[-1:]) + "\n")
    answer = analyze(path).answer
    assert "too few" not in str(answer)
    assert any("2 evaluations are missing" in note for note in answer.notes)


def test_epochs_are_told_as_the_log_counts_them(tmp_path):
    accuracy = curve(0.5, 0.9, fall=0.6, noise=0.005)
    rows = "".join(f"{500 * k},{value:.6g}\n" for k, value in enumerate(accuracy, 1))
    path = tmp_path / "steps.csv"
    path.write_text("step,val_accuracy\n" + rows)
    (run,) = analyze(path).answer.runs
    assert run.clock == "step"
    assert run.checkpoint.keep % 500 == 0
    assert f"step {run.checkpoint.keep:,g}" in run.checkpoint.sentence.replace(",", "") or (
        f"{run.checkpoint.keep:,g}" in run.checkpoint.sentence
    )


def test_a_notebook_s_dict_of_any_tool_is_read_as_its_log_is():
    history = {
        "loss": curve(2, 0.1),
        "accuracy": curve(0.4, 0.99),
        "val_loss": curve(2, 0.6, noise=0.01),
        "val_accuracy": curve(0.4, 0.9, noise=0.01),
    }

    class History:  # as Keras' fit() returns
        pass

    kept = History()
    kept.history = history
    (one,), (other,) = diagnose(history).runs, diagnose(kept).runs
    assert one == other
    assert [series.role for series in one.series] == [
        "val_accuracy",
        "val_loss",
        "train_accuracy_running",
        "train_loss_running",
    ]
    assert one.series[0].values == pytest.approx(history["val_accuracy"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs a curve"),
        ({"val_accuracy": []}, "needs a curve"),
        ({"val_accuracy": 3}, "val_accuracy is 3"),
        ({"val_accuracy": "abc"}, "val_accuracy is 'abc'"),
        ({"val_accuracy": [[1, 2]]}, "val_accuracy holds"),
        ({"val_accuracy": [0.1, 0.2], "val_loss": [1]}, "val_accuracy has 2, val_loss has 1"),
        ({"val_accuracy": [0.1, 0.2], "num_val": 0}, "num_val 0"),
    ],
)
def test_what_is_no_curve_is_refused_in_one_line(given, words):
    with pytest.raises(InputError, match=re.escape(words)) as error:
        diagnose(**given)
    assert "\n" not in str(error.value)


def test_arrays_frames_and_percentages_are_one_curve():
    accuracy = curve(0.5, 0.9, noise=0.01)
    same = [accuracy, list(accuracy), tuple(accuracy), pl.Series(accuracy), 100 * accuracy]
    told = [diagnose(one, num_val=1000).runs[0].series[0].values for one in same]
    for one in told[1:]:
        assert one == pytest.approx(told[0])


def test_a_sparkline_has_one_sign_for_each_evaluation_up_to_its_width():
    assert spark([0, 1, 2, 3]) == "▁▃▆█"
    assert spark([1.0, float("nan"), 1.0]) == "▁ ▁"
    assert len(spark(list(range(1000)), 40)) == 40
    assert spark([float("nan")] * 3) == "   "
