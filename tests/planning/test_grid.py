"""Identity: a trial is its content, so wider grids and later runs keep its id."""

import shutil
from pathlib import Path

import pytest

from raysweep.errors import InputError
from raysweep.planning.grid import Identity, Model, expand
from raysweep.spec import SweepSpec
from raysweep.tasks import Traits, find_task
from tests.support.groups import CONTEXT

PLAIN = Traits(batch_norm=False, random=False)


def identified(traits=PLAIN, n_train=1000):
    """A task whose models all have these traits."""
    return Identity("m:t", "source", "data", n_train, {(): Model(traits)})


IDENTITY = identified()


def sweep(axes, *, base=None, seeds: int | tuple[int, ...] = 2, workers=1):
    return SweepSpec.from_mapping(
        {
            "name": "s",
            "task": "m:t",
            "base": base or {},
            "axes": axes,
            "seeds": seeds,
            "resources": {"workers": workers},
        }
    )


def ids(spec, identity=IDENTITY):
    return [trial.trial_id for trial in expand(spec, identity)]


def test_golden_ids():
    # These stand in stores that people have. A change here orphans all of them.
    assert ids(sweep({"learning_rate": [0.1]}, seeds=1)) == ["9aebd1fa76c0"]
    rich = {"optimizer": "adam", "early_stopping": {"patience": 5}, "grad_clip": 1}
    assert ids(sweep({"dropout": [0.5]}, base=rich, seeds=(7,), workers=2)) == ["8e1ccf6cd0d6"]


def test_a_field_that_came_later_changes_an_id_only_where_it_is_set():
    plain = ids(sweep({}))
    assert ids(sweep({}, base={"micro_batch_size": None, "compile": False})) == plain
    for base in ({"micro_batch_size": 8}, {"compile": True}):
        assert set(ids(sweep({}, base=base))).isdisjoint(plain)


def test_a_wider_grid_keeps_the_ids_of_the_narrower_one():
    narrow = ids(sweep({"learning_rate": [0.1, 1.0]}))
    wide = ids(sweep({"dropout": [0.0, 0.5], "learning_rate": [1.0, 0.01, 0.1]}, seeds=5))
    assert set(narrow) < set(wide)
    assert len(set(wide)) == len(wide) == 2 * 3 * 5


def test_a_value_means_the_same_in_base_and_on_an_axis_and_however_it_is_written():
    assert ids(sweep({"learning_rate": [1]})) == ids(sweep({}, base={"learning_rate": 1.0}))


def test_whatever_can_change_a_result_changes_the_id():
    base = ids(sweep({}))
    others = [ids(sweep({}, base={"epochs": 41})), ids(sweep({}, base={"width": 64}))]
    fields = ("task", "task_digest", "data_digest")
    others += [ids(sweep({}), IDENTITY._replace(**{field: "other"})) for field in fields]
    found = [trial_id for group in [base, *others] for trial_id in group]
    assert len(set(found)) == len(found)


def test_probes_are_no_part_of_an_id_for_they_change_no_result():
    content = {"name": "s", "task": "m:t", "probes": {"ema_half_life": 2.0, "confidence": False}}
    assert ids(SweepSpec.from_mapping(content)) == ids(
        SweepSpec.from_mapping({"name": "s", "task": "m:t"})
    )


@pytest.mark.parametrize(
    ("base", "traits", "counts"),
    [
        ({}, PLAIN, False),
        ({"dropout": 0.5}, PLAIN, True),
        ({}, PLAIN._replace(batch_norm=True), True),
        ({}, PLAIN._replace(random=True), True),
        ({}, PLAIN._replace(mixes=True), True),
    ],
)
def test_the_number_of_workers_counts_only_where_it_can_change_results(base, traits, counts):
    one, two = (ids(sweep({}, base=base, workers=n), identified(traits)) for n in (1, 2))
    assert (one != two) == counts


@pytest.mark.parametrize(
    ("base", "workers", "message"),
    [
        ({"batch_size": 2}, 3, "batch_size = 2 is smaller than the number of workers, 3"),
        ({"batch_size": 1001}, 1, "larger than the training set: 1000 examples"),
        ({"epochs": 3, "warmup_epochs": 3}, 1, "warmup_epochs = 3 leaves nothing of 3 epochs"),
    ],
)
def test_a_point_that_can_not_be_trained_is_refused(base, workers, message):
    with pytest.raises(InputError, match=message):
        ids(sweep({}, base=base, workers=workers))


def test_a_last_batch_of_one_with_batch_norm_is_refused():
    normed = PLAIN._replace(batch_norm=True)
    with pytest.raises(InputError, match="batch norm needs 2 or more"):
        ids(sweep({"batch_size": [32]}), identified(normed, n_train=97))
    ids(sweep({"batch_size": [32]}), identified(normed, n_train=96))


def test_the_model_decides_alone_whether_the_number_of_workers_counts():
    normed = PLAIN._replace(batch_norm=True)
    models = {("1",): Model(PLAIN), ("3",): Model(normed)}
    identity = IDENTITY._replace(models=models, axes=("depth",))
    one, two = (ids(sweep({"depth": [1, 3]}, seeds=1, workers=n), identity) for n in (1, 2))
    assert one[0] == two[0]
    assert one[1] != two[1]


def digest_of(reference, folder):
    return find_task(reference, folder).digest


def test_editing_a_tasks_source_changes_its_digest(tmp_path):
    here = Path(__file__).parents[1] / "support"
    shutil.copy(here / "odd_tasks.py", tmp_path / "mine.py")
    (tmp_path / "layers.py").write_text("WIDTH = 1\n")
    with open(tmp_path / "mine.py", "a") as file:
        file.write("import layers\n")

    def digest():
        with CONTEXT.Pool(1) as fresh:  # a process that has imported neither
            return fresh.apply(digest_of, ("mine:odd", tmp_path))

    first = digest()
    assert digest() == first
    (tmp_path / "layers.py").write_text("WIDTH = 2\n")
    second = digest()
    with open(tmp_path / "mine.py", "a") as file:
        file.write("# edited\n")
    assert len({first, second, digest()}) == 3
