"""Whatever a sweep file or a `--set` holds: a sweep, or one clear line. Never a traceback."""

import itertools

import pyarrow as pa
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from analysis.stats.trend import planned_df
from raysweep import recipes
from raysweep.errors import InputError, RaysweepError
from raysweep.plain_yaml import parse_scalars, parse_yaml
from raysweep.planning.grid import Identity, Model, expand
from raysweep.schedule import recorded_rates
from raysweep.spec import EarlyStopping, Frozen, Hyperparameters, SweepSpec
from raysweep.store.schema import TRIALS
from raysweep.tasks import Traits
from tests.support.fuzzing import NUMBERS, TEXTS, VALUES, cases, outcome

NORMED = Model(Traits(batch_norm=True, random=False))
IDENTITY = Identity("digits", "task", "data", 1000, {(): NORMED})
BOMB = "a: &a [x, x, x]\n" + "\n".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]"
    for old, new in itertools.pairwise("abcdefghijkl")
)
MERGED = "a: &a {k: v}\n" + "\n".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}"
    for old, new in itertools.pairwise("abcdefghijkl")
)


def used(content):
    """A sweep from parsed YAML, as far as it can be planned without data."""
    spec = SweepSpec.from_mapping(content)
    spec.model_dump_json()
    trials = len(spec.seeds)
    for values in spec.axes.values():
        trials *= len(values)
    if trials < 100:
        for trial in expand(spec, IDENTITY):
            pa.RecordBatch.from_pylist(
                [{**trial.hyperparameters.columns(), "seed": trial.seed}], TRIALS
            )
    planned_df(recorded_rates(spec.base, 10), num_seeds=len(spec.seeds))
    return spec


SNIPPETS = st.one_of(
    st.sampled_from(
        [
            "",
            "~",
            "[",
            "{",
            "]",
            "*a",
            "&a 1",
            "&a [*a]",
            "<<",
            "? [1]",
            "!!int x",
            "!!int ''",
            "!!bool 3",
            "!!float x",
            "!!binary '*'",
            "!!timestamp x",
            "!!set {a}",
            "!!omap [1]",
            "!!pairs [[1]]",
            "!!python/object:os.system ls",
            "2001-99-99",
            "2001-01-01",
            "1:2:3",
            "0x" + "f" * 5000,
            "1" * 5000,
            "1_000",
            "1e400",
            ".nan",
            "-.inf",
            "0b2",
            "yes",
            "|",
            "'",
            '"\\ud800"',
            '"\\0"',
            "\t",
            "[" * 2000,
            "- " * 500,
            "{a: " * 300,
            "%YAML 9.9",
            "---",
            "[1, 2]",
            "[0.1, 0.10]",
            "[0, 0.0, false]",
            "{patience: 3}",
            "[{patience: 3}, null]",
            "[{patience: 3}, {patience: 3}]",
            "1000000000",
            "[1000000000]",
            "3",
            "0.5",
        ]
    ),
    st.builds(
        lambda value: yaml.dump(value, default_flow_style=True).strip(),
        VALUES.filter(lambda value: "0" * 400 not in repr(value)),
    ),
)
SECTIONS = {
    name: [*field.annotation.model_fields]
    for name, field in SweepSpec.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen)
}
FIELDS = {
    **SECTIONS,
    "axes": [*Hyperparameters.model_fields],
    "early_stopping": [*EarlyStopping.model_fields],
}
OTHERS = sorted(SweepSpec.model_fields.keys() - FIELDS)  # name, task, seeds, ...


@st.composite
def mappings(draw, section):
    """A mapping in flow style, of which most keys exist."""
    keys = st.one_of(st.sampled_from(FIELDS[section]), TEXTS.map(repr))
    pairs = draw(st.lists(st.tuples(keys, SNIPPETS), max_size=4))
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"


@st.composite
def sweep_files(draw):
    """A sweep file that is nearly right."""
    lines = {"name": "s", "task": "digits"}
    for key in draw(st.lists(st.sampled_from(OTHERS), max_size=2)):
        lines[key] = draw(SNIPPETS)
    for section in ("axes", *SECTIONS):
        if draw(st.booleans()):
            lines[section] = draw(st.one_of(mappings(section), SNIPPETS))
    return "\n".join(f"{key}: {value}" for key, value in lines.items())


@given(text=sweep_files())
@example("name: s\ntask: digits\nseeds: 1000000000")
@example(
    f"name: s\ntask: digits\naxes: {{learning_rate: {[n / 7 for n in range(1, 500)]}, "
    f"width: {[*range(1, 500)]}, depth: {[*range(1, 999)]}}}"
)
@example("name: s\ntask: digits\nbase: {epochs: 0x" + "f" * 5000 + "}")
@example("name: s\ntask: digits\nbase: {? 2001-99-99 : 1}")
@example("name: s\ntask: digits\naxes: {depth: [100000000]}")
@example(BOMB)
@example(MERGED)
@example("[" * 5000)
@example("{a: " * 5000)
@example("".join(f"k{n}: 1\n" for n in range(4_000)))
@cases(short=30, long=3000)
def test_a_sweep_file_that_is_nearly_right_is_a_sweep_or_refused(text):
    outcome(lambda: used(parse_yaml(text, source="sweep.yaml")))
    outcome(lambda: parse_scalars(text, source="hparams.yaml"))


@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
)
@example(body=b"\xff\xfe\0")
@example(body=b"\0")
@cases(short=30, long=1000)
def test_any_bytes_as_a_sweep_file_are_a_sweep_or_refused(body, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(body)
    outcome(lambda: recipes.read(str(path)))


PATHS = st.one_of(
    st.builds(
        lambda section, name: f"{section}.{name}",
        st.sampled_from([*FIELDS, *OTHERS, "base.early_stopping"]),
        st.sampled_from(sorted({name for names in FIELDS.values() for name in names})),
    ),
    st.sampled_from([*OTHERS, *SECTIONS, "axes", "", ".", "..", "a." * 3000]),
    TEXTS,
)
SETTINGS = st.one_of(st.builds(lambda path, value: f"{path}={value}", PATHS, SNIPPETS), TEXTS)


@given(
    settings=st.lists(SETTINGS, min_size=1, max_size=3),
    seeds=st.one_of(
        st.none(), NUMBERS.filter(lambda n: abs(n) != 10**400).map(str), TEXTS, st.just("+2")
    ),
)
@example(["seeds=null"], "+2")
@example(["seeds=0.5"], "+2")
@example(["seeds=10000000000"], "+2")
@example([], "+9999999999")
@example([], "9" * 5000)
@example(["axes.x." + "a." * 3000 + "b=1"], None)
@example(["axes.dropout." + "a." * 3000 + "b=1"], None)
@cases(short=30, long=3000)
def test_any_settings_and_seeds_give_a_sweep_or_are_refused(settings, seeds):
    outcome(lambda: recipes.read("digits", settings, seeds))


@pytest.mark.parametrize("text", [BOMB, MERGED])
def test_aliases_of_aliases_are_refused_by_name_before_anything_is_built(text):
    with pytest.raises(InputError, match=r"the alias \*a, line 2: write the value out"):
        parse_yaml(text, source="bomb.yaml")


def test_a_grid_beyond_a_million_trials_is_refused_with_its_size():
    axes = {"width": [*range(1, 1001)], "batch_size": [*range(1, 1001)]}
    with pytest.raises(InputError, match="axes x seeds are 2,000,000 trials; at most 1,000,000"):
        SweepSpec.from_mapping({"name": "s", "task": "digits", "axes": axes, "seeds": 2})


def test_the_contract_catches_what_is_no_raysweep_error():
    assert isinstance(outcome(lambda: recipes.read("nothing")), RaysweepError)
    with pytest.raises(ValueError, match="invalid literal"):
        outcome(lambda: int("x"))
