"""Numbers, lists and intervals as a person reads them."""

import math

import numpy as np
import polars as pl
import pytest

from analysis.measures.best_epoch import held_out_twice
from analysis.stats.best_set import block_deviations
from analysis.words import between, capitalized, first_few, interval_text, listed, number, plural


def test_numbers_have_a_real_minus_and_no_negative_zero():
    assert number(-1.25, 1) == "−1.2"
    assert number(-0.001, 2) == "0.00"
    assert between(-0.01, 0.02, 0) == " (−1 to 2)"
    assert between(None, 0.02) == ""


def test_lists_read_as_sentences():
    assert [listed("abc"[:size]) for size in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert first_few("abcd", 2) == "a, b and 2 more"
    assert first_few("ab", 2) == "a, b"
    assert [plural(count, "seed") for count in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert capitalized("aB") == "AB"


def test_an_interval_without_limits_is_its_estimate():
    ends = {"x": [0.012, 0.5], "x_low": [0.01, None], "x_high": [0.014, None]}
    texts = pl.DataFrame(ends).select(interval_text("x", digits=1))
    assert texts["x_tip"].to_list() == ["1.2 (1.0 to 1.4)", "50.0"]


def test_limits_that_are_not_known_are_left_out():
    for low, high in ((None, 0.2), (math.nan, 0.2), (0.1, math.nan)):
        assert between(low, high) == ""


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_a_validation_set_in_a_block_or_two_is_scored_without_a_warning(num_blocks):
    """As one of one or two examples is: all other blocks are empty. Warnings are errors here."""
    weight = np.zeros((2, 20))
    weight[:, :num_blocks] = 1 / num_blocks
    blocks = np.tile(np.linspace(0, 1, 20), (2, 5, 1))
    deviations = block_deviations(blocks, weight)
    assert np.isfinite(deviations).all() == (num_blocks > 1)
    assert held_out_twice(blocks, weight).shape[0] == 2
