"""A task's own hyperparameters: known to the sweep file, its errors, its ids, and the store."""

import json
import pickle
import textwrap

import pytest
from ray import cloudpickle

from raysweep import recipes
from raysweep.errors import InputError
from raysweep.planning.plan import make_plan
from raysweep.spec import SweepSpec
from raysweep.store.files import Store
from raysweep.store.schema import TRIALS
from tests.support.commands import run_here

TASK = """
    from pydantic import Field
    from raysweep import Hyperparameters, Task
    from raysweep.tasks.digits import build, load

    class Trial(Hyperparameters):
        num_heads: int = Field(4, ge=1)
        mixup_alpha: float = Field(0.0, ge=0)
        lion: bool = False
        kind: str = "plain"

    task = Task(load, build, hyperparameters=Trial)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a sweep file beside a task of its own, whose module's name is new each time."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(sweep, task=TASK, name=""):
        name = name or "fields_" + tmp_path.name.replace("-", "_")
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(task))
        head = f"name: mine\ntask: '{name}:task'\n"
        (tmp_path / "sweep.yaml").write_text(head + textwrap.dedent(sweep))
        return str(tmp_path / "sweep.yaml")

    return write


def test_own_fields_are_set_varied_and_typed_like_all_others(written, tmp_path):
    path = written("base: {num_heads: 8}\naxes: {mixup_alpha: [0, 0.2], lion: [false, true]}\n")
    spec = recipes.read(path, ["base.kind=other"], seeds="1")
    plan = make_plan(spec, Store(tmp_path / "store"))
    assert len({trial.trial_id for trial in plan.trials}) == 4
    first = plan.trials[0].hyperparameters
    assert [getattr(first, name) for name in ("num_heads", "mixup_alpha", "kind")] == [
        8,
        0.0,
        "other",
    ]
    columns = plan.trials[-1].hyperparameters.columns()
    assert set(columns) <= set(TRIALS.names)
    own = {"num_heads": 8, "mixup_alpha": 0.2, "lion": True, "kind": "other"}
    assert json.loads(columns["own_fields"]) == own
    other = recipes.read(path, ["base.kind=other", "base.num_heads=4"], seeds="1")
    ids = {trial.trial_id for trial in make_plan(other, Store(tmp_path / "store")).trials}
    assert ids.isdisjoint(trial.trial_id for trial in plan.trials)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("axes: {lyon: [1]}", "axis 'lyon' is not a field of a trial; did you mean 'lion'"),
        ("base: {num_head: 1}", "'base.num_head' is not a field of a trial; did you mean 'num_he"),
        ("base: {num_heads: 0}", "base.num_heads = 0 is not allowed: it should be greater than"),
        ("axes: {mixup_alpha: [0.1, -1]}", "mixup_alpha = -1 is not allowed"),
        ("axes: {lion: [1]}", "lion = 1 is not allowed: it should be a valid boolean"),
    ],
)
def test_a_mistake_in_an_own_field_is_one_line_with_the_nearest_name(written, sweep, message):
    with pytest.raises(InputError) as refused:
        recipes.read(written(sweep))
    assert message in str(refused.value)


def test_a_task_that_cannot_be_imported_hides_no_mistake_of_the_sweep_file(written, tmp_path):
    broken, name = TASK + "\n    1 / 0\n", "broken_" + tmp_path.name.replace("-", "_")
    with pytest.raises(InputError, match=r"base\.epochs = 0 is not allowed.*ZeroDivisionError"):
        recipes.read(written("base: {epochs: 0}", broken, name))
    with pytest.raises(InputError, match=r"'lyon' is not a field.*ZeroDivisionError"):
        recipes.read(written("axes: {lyon: [1]}", broken, name))
    spec = recipes.read(written("base: {epochs: 1}", broken, name))  # the plan tells of the task
    with pytest.raises(InputError, match="importing it failed: ZeroDivisionError"):
        make_plan(spec, Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("ge=1)", "Field(4"),
        ("hyperparameters=Trial", "hyperparameters=dict"),
        ("hyperparameters=Trial", "loss='mse'"),
        ("hyperparameters=Trial", "margin='small'"),
        ("hyperparameters=Trial", "score_name=3"),
    ],
)
def test_a_word_that_a_task_says_wrongly_is_named(written, tmp_path, changed, message):
    name = f"odd_{tmp_path.name}".replace("-", "_")
    task = TASK.replace("Field(4, ge=1)", "Field(ge=1)") if changed == "ge=1)" else TASK
    task = task.replace(changed, message) if changed != "ge=1)" else task
    spec = recipes.read(written("base: {epochs: 1}", task, name))
    word = "num_heads" if changed == "ge=1)" else message.partition("=")[0]
    with pytest.raises(InputError, match=word):
        make_plan(spec, Store(tmp_path / "store"))


def test_a_sweep_from_python_gets_the_fields_that_its_task_adds(written, tmp_path):
    path = written("base: {num_heads: 2}")
    kind = type(recipes.read(path).base)
    task = recipes.read(path).task
    plain = SweepSpec.from_mapping({"name": "mine", "task": task}, folder=tmp_path)
    assert make_plan(plain, Store(tmp_path / "store")).trials[0].hyperparameters == kind()
    content = {"name": "mine", "task": task, "axes": {"num_heads": [1, 2]}}
    own = SweepSpec.from_mapping(content, folder=tmp_path, hyperparameters=kind)
    again = pickle.loads(cloudpickle.dumps(own))  # pyright: ignore[reportPrivateImportUsage]
    assert again.model_dump() == own.model_dump()
    assert again.base == own.base


def test_a_field_with_the_name_of_a_column_is_refused(written, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    name = f"clash_{tmp_path.name}".replace("-", "_")
    path = written("base: {epochs: 20}", TASK.replace("kind: str", "churn: str"), name)
    code, _, err = run_here(capsys, "run", path, "--dry-run", "--address", "local")
    assert code == 2
    assert "field 'churn' of Trial has the name of a column" in err
    path = written("base: {epochs: 20}\naxes: {num_heads: [1, 2]}")
    code, out, err = run_here(capsys, "run", path, "--dry-run", "--address", "local")
    assert (code, err) == (0, "")
    assert "num_heads: 1, 2" in out
