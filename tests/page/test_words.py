"""Numbers, lists and intervals as a person reads them."""

import polars as pl

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
