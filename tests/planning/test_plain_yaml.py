"""Plain YAML: what a value means by YAML 1.2's core schema, in a sweep file and in `--set`."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import recipes
from raysweep.plain_yaml import apply_setting, parse_scalars, parse_yaml
from tests.support.fuzzing import cases

SIGNS = st.sampled_from(["", "+", "-"])
DIGITS = st.text("0123456789", min_size=1, max_size=30)
CASED = st.sampled_from([str.lower, str.title, str.upper])


def meant(text):
    """A value as a sweep file, a setting and a log's hyperparameters read it: all alike."""
    content = {}
    apply_setting(content, f"key={text}")
    assert parse_scalars(f"key: {text}", source="here") == content
    assert parse_yaml(f"- {text}", source="here") == [content["key"]]
    return content["key"]


@given(sign=SIGNS, digits=DIGITS)
@cases(short=100, long=3000)
def test_whole_numbers_are_decimal_whatever_they_begin_with(sign, digits):
    value = meant(sign + digits)
    assert (type(value), value) == (int, int(sign + digits, 10))


@given(number=st.integers(0, 2**70))
@cases(short=50, long=1000)
def test_octal_and_hexadecimal_numbers_say_so(number):
    assert meant(f"{number:#o}") == meant(f"{number:#x}") == number


@given(sign=SIGNS, whole=DIGITS, part=DIGITS, power=st.integers(-300, 300), e=st.sampled_from("eE"))
@cases(short=100, long=3000)
def test_numbers_with_a_point_or_a_power_are_floats(sign, whole, part, power, e):
    for text in (f"{whole}.{part}", f".{part}", f"{whole}.", f"{whole}{e}{power}", f".{part}e+01"):
        value = meant(sign + text)
        assert type(value) is float
        assert value == float(sign + text)


@given(word=st.sampled_from(["yes", "no", "on", "off", "y", "n"]), cased=CASED)
@cases(short=30, long=100)
def test_only_true_and_false_are_booleans(word, cased):
    assert meant(cased(word)) == cased(word)
    assert meant(cased("true")) is True
    assert meant(cased("false")) is False


@given(hours=st.integers(0, 99), minutes=st.integers(0, 59), more=st.sampled_from(["", ":45"]))
@cases(short=50, long=500)
def test_a_time_is_a_word(hours, minutes, more):
    text = f"{hours}:{minutes:02}{more}"
    assert meant(text) == text


@pytest.mark.parametrize(
    "text",
    ["1_000", "0b11", "-0x1", "0o8", "2001-01-01", "1e", "1.2.3", "tRue", "=", "<<", "0128x"],
)
def test_what_is_no_value_of_the_core_schema_is_a_word(text):
    assert meant(text) == text


def test_special_floats_and_null():
    values = parse_yaml("[.inf, -.INF, .nan, ~, null, NULL, ]", source="here")
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])
    assert values[3:] == [None] * 3
    assert parse_yaml("a:", source="here") == {"a": None}


def test_a_sweep_trains_what_its_file_says(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("name: s\ntask: digits\nseeds: 010\naxes: {batch_size: [032, 100]}\n")
    spec = recipes.read(str(file))
    assert len(spec.seeds) == 10
    assert spec.axes["batch_size"] == (32, 100)
    assert recipes.read(str(file), ["axes.batch_size=[0128]"]).axes["batch_size"] == (128,)
