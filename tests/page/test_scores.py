"""A store whose scores are no counts: it is read, judged and reported in the score's own words."""

import re

import numpy as np
import pytest

from analysis.page.report import write_report
from analysis.results import analyze
from raysweep.store.files import Store
from tests.support.simulated import Curve, Sweep, spec


class Scored(Sweep):
    """The same sweep, with a score in place of each example's right or wrong."""

    kind, scale, offset = "share", 1.0, 0.0

    def _rows(self, trial, made, rng, kind):
        columns = super()._rows(trial, made, rng, kind)

        def scored(count, n):
            return self.scale * np.asarray(count, float) + self.offset * np.asarray(n, float)

        sums = {
            "val_score_sum": scored(columns.pop("val_correct"), self.num_val),
            "val_block_score_sum": list(
                scored(columns.pop("val_block_correct"), columns["val_block_n"])
            ),
        }
        if "train_eval_correct" in columns:
            right = columns.pop("train_eval_correct")
            sums["train_eval_score_sum"] = scored(right, self.num_train)
            sums["repeat_score_sum"] = sums["val_score_sum"]
        for name in ("repeat_correct", "val_correct_bits", "temperature", "brier", "ece"):
            columns.pop(name, None)
        for name in ("val_nll_at_temperature", "val_block_nll_sum", "val_class_n"):
            columns.pop(name, None)
        for name in ("flip_to_wrong", "flip_to_right", "val_class_correct"):
            columns.pop(name)
        return columns | sums

    @property
    def told(self):
        return {"score_kind": self.kind, "score_name": "overlap", "num_classes": None}


class Numbers(Scored):
    kind, scale, offset = "number", 3.0, -1.5


@pytest.fixture
def sweep_of(tmp_path):
    def made(kind):
        plan = spec("scored", axes={"dropout": [0.0, 0.5]}, epochs=40)
        root = tmp_path / kind.__name__
        kind(plan, probes=True).write(root, lambda trial: Curve())
        return root

    return made


def test_scores_are_judged_like_the_counts_that_they_repeat(sweep_of):
    counted, shares = analyze(sweep_of(Sweep)), analyze(sweep_of(Scored))
    for name in ("hf_sd", "gap", "drop", "final_accuracy"):
        np.testing.assert_allclose(shares.trials[name], counted.trials[name], rtol=1e-9)
    numbers = analyze(sweep_of(Numbers))
    for name in ("hf_sd", "gap", "drop"):
        np.testing.assert_allclose(numbers.trials[name], 3 * counted.trials[name], rtol=1e-9)
    assert shares.trials["guessing_at"].null_count() == shares.trials.height
    assert set(shares.epochs["val_accuracy"].is_null()) == {False}


def test_a_report_of_numbers_says_no_percentage_points(sweep_of, tmp_path):
    pages = {}
    for kind in (Sweep, Scored, Numbers):
        root = sweep_of(kind)
        path = write_report(Store(root), tmp_path / f"{kind.__name__}.html")
        text = path.read_text()
        pages[kind] = re.sub(r"<script[ >].*?</script>", "", text, flags=re.DOTALL)
        specs = re.search(r'id="specs">(.*?)</script>', text, re.DOTALL)
        assert specs is not None
        pages[kind] += specs[1]
    assert re.search(r"\bpp\b", pages[Sweep])
    assert "uncalibrated" not in pages[Sweep]
    assert re.search(r"\bpp\b", pages[Scored])
    assert "each example&#39;s share of right answers (overlap)" in pages[Scored]
    assert not re.search(r"\bpp\b", pages[Numbers])
    assert "accuracy means the score (overlap)" in pages[Numbers]
