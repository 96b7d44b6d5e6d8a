"""The sweep file: what is accepted, and the one clear line for what is not."""

import pytest
from pydantic import ValidationError

from raysweep import recipes
from raysweep.errors import InputError
from raysweep.plain_yaml import apply_setting, parse_yaml
from raysweep.spec import Hyperparameters, Probes, SweepSpec, nested_fields

MINIMAL = {"name": "s", "task": "digits"}


def refusal(**changes):
    with pytest.raises(InputError) as caught:
        SweepSpec.from_mapping(MINIMAL | changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_duplicate_yaml_key_is_refused():
    with pytest.raises(InputError, match="'base' stands twice"):
        parse_yaml("base: {}\nbase: {}", source="here")


def test_broken_yaml_names_the_file_and_the_line():
    with pytest.raises(InputError, match=r"my\.yaml is not YAML.*line 2"):
        parse_yaml("a: 1\n b: {", source="my.yaml")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"sedes": 3}, ["'sedes' is not a field of a sweep", "did you mean 'seeds'?"]),
        ({"base": {"learning_rte": 1}}, ["'base.learning_rte'", "did you mean 'learning_rate'?"]),
        ({"axes": {"lerning_rate": [1]}}, ["axis 'lerning_rate'", "did you mean 'learning_rate'?"]),
        ({"axes": {"dropout": []}}, ["axis 'dropout' is empty"]),
        ({"axes": {"dropout": 0.5}}, ["axis 'dropout' = 0.5", "list"]),
        ({"axes": {"dropout": [0, 1.5]}}, ["axis dropout = 1.5", "less than 1"]),
        ({"axes": {"dropout": [0, 0.0]}}, ["axis 'dropout'", "stands twice"]),
        ({"axes": {"optimizer": ["sgdd"]}}, ["axis optimizer = 'sgdd'", "'sgd', 'adam'"]),
        ({"base": {"epochs": 0}}, ["base.epochs = 0", "greater than or equal to 1"]),
        ({"base": {"epochs": "ten"}}, ["base.epochs = 'ten'", "integer"]),
        ({"base": {"learning_rate": float("inf")}}, ["base.learning_rate = inf", "finite"]),
        ({"base": {"dropout": 0.1}, "axes": {"dropout": [0.0]}}, ["'dropout' stands in base and"]),
        ({"seeds": 0}, ["seeds = 0", "at least one seed"]),
        ({"seeds": [1, 1]}, ["seeds = [1, 1]", "stands twice"]),
        ({"seeds": [-1]}, ["seeds.0 = -1", "greater than or equal to 0"]),
        ({"name": "../out"}, ["name = '../out'", "allowed: letters"]),
        ({"resources": {"workers": 0}}, ["resources.workers = 0"]),
        ({"resources": {"gpus_per_worker": 1.5}}, ["resources.gpus_per_worker = 1.5", "whole"]),
        (
            {"resources": {"workers": 2, "gpus_per_worker": 0.5}},
            ["resources.gpus_per_worker = 0.5", "can't share a GPU"],
        ),
        ({"resources": {"gpu": 1}}, ["'resources.gpu' is not a field of resources"]),
        ({"probes": {"ema": 1.0}}, ["'probes.ema' is not a field of probes", "ema_half_life"]),
        ({"probes": {"ema_half_life": 0.0}}, ["probes.ema_half_life = 0.0", "greater than 0"]),
        ({"probes": {"gradient_noise_every": 0}}, ["probes.gradient_noise_every = 0"]),
        ({"probes": {"correct_bits": "yes"}}, ["probes.correct_bits = 'yes'", "boolean"]),
        ({"base": {"early_stopping": {"patiens": 3}}}, ["did you mean 'patience'?"]),
        ({"base": {"early_stopping": {"patience": 0}}}, ["base.early_stopping.patience = 0"]),
        ({"axes": {"early_stopping": [{"patience": 0}]}}, ["early_stopping.patience = 0"]),
    ],
)
def test_bad_input_is_one_line_that_names_the_thing_the_value_and_what_is_allowed(changes, parts):
    message = refusal(**changes)
    for part in parts:
        assert part in message


def test_a_missing_task_is_named():
    with pytest.raises(InputError, match="'task' is missing"):
        SweepSpec.from_mapping({"name": "s"})


def test_a_spec_can_not_be_changed():
    spec = SweepSpec.from_mapping(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_correct_bits_are_recorded_while_they_are_few_or_where_asked_for():
    assert Probes().settled(n_val=797, num_epochs=108 * 60).correct_bits
    assert not Probes().settled(n_val=797, num_epochs=10_100_000).correct_bits  # over 1 GB
    assert not Probes().settled(n_val=100_001, num_epochs=1).correct_bits
    assert Probes(correct_bits=True).settled(n_val=100_001, num_epochs=1).correct_bits
    assert not Probes(correct_bits=False).settled(n_val=10, num_epochs=1).correct_bits


def test_seeds_are_a_number_or_a_list():
    assert SweepSpec.from_mapping(MINIMAL | {"seeds": 2}).seeds == (0, 1)
    assert SweepSpec.from_mapping(MINIMAL | {"seeds": [4, 2]}).seeds == (4, 2)


def test_a_setting_is_a_dotted_path_and_a_yaml_value():
    content = {"base": None}
    for setting in ("base.epochs=10", "axes.learning_rate=[1e-3,1e-2]", "data=null"):
        apply_setting(content, setting)
    assert content == {
        "base": {"epochs": 10},
        "axes": {"learning_rate": [0.001, 0.01]},
        "data": None,
    }


@pytest.mark.parametrize("setting", ["epochs", "=3", "name.first=x", "a=[1"])
def test_a_setting_that_can_not_be_applied_is_quoted(setting):
    with pytest.raises(InputError) as caught:
        apply_setting({"name": "s"}, setting)
    assert setting in str(caught.value)


def test_every_recipe_is_a_valid_sweep_that_says_what_it_asks():
    for name in recipes.names():
        assert recipes.read(name).name == name
        assert recipes.read(name).claim or "?" in recipes.summary(name)[0]
        assert recipes.summary(name)
    assert recipes.names()[0] == "digits"
    assert set(recipes.names()) == {
        *("digits", "batch-size", "optimizer", "learning-rate", "label-noise", "small-validation"),
        *("capacity", "dropout", "weight-decay", "early-stopping", "seeds-only", "split"),
        *("augmentation", "imbalance", "validation-size"),
    }


def test_the_default_recipe_spans_what_it_promises():
    spec = recipes.read("digits")
    assert spec.axes["batch_size"] == (32, 128, 512)
    assert len(spec.axes["learning_rate"]) == 3
    assert spec.axes["dropout"] == (0.0, 0.5)
    assert spec.axes["weight_decay"] == (0.0, 1e-4)
    assert len(spec.seeds) == 3
    assert spec.base.epochs >= 40


def test_seeds_on_the_command_line_are_a_number_or_further_ones(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("name: s\ntask: digits\nseeds: [0, 7]\n")
    assert recipes.read(str(file), seeds="4").seeds == (0, 1, 2, 3)
    assert recipes.read(str(file), seeds="+2").seeds == (0, 7, 1, 2)
    with pytest.raises(InputError, match="--seeds 'many'"):
        recipes.read(str(file), seeds="many")


def test_an_unknown_recipe_and_a_missing_file_are_told_apart():
    with pytest.raises(InputError, match="did you mean 'dropout'"):
        recipes.read("dropuot")
    with pytest.raises(InputError, match=r"there is no file none\.yaml"):
        recipes.read("none.yaml")


def test_columns_are_flat_and_complete():
    with_rule = Hyperparameters.model_validate({"early_stopping": {"patience": 4}}).columns()
    without = Hyperparameters().columns()
    assert list(with_rule) == list(without)
    assert (with_rule["early_stopping"], with_rule["early_stopping_patience"]) == (True, 4)
    assert (without["early_stopping"], without["early_stopping_patience"]) == (False, None)
    assert {name for name, _ in nested_fields()} == set(Hyperparameters.model_fields)


def test_learning_rate_scales_with_the_batch_as_asked():
    def scaled(rule):
        trial = Hyperparameters(
            batch_size=512, reference_batch_size=128, learning_rate=0.1, lr_scaling=rule
        )
        return trial.effective_learning_rate()

    assert [scaled(rule) for rule in ("none", "sqrt", "linear")] == [0.1, 0.2, 0.4]
