"""`raysweep check`: each fault of a list of broken tasks is one line, and a sound task has none."""

import re
from pathlib import Path

import pytest

from raysweep.checking.axes import idle_axes
from raysweep.checking.check import check
from raysweep.checking.trying import try_sweep
from raysweep.errors import InputError, one_line, place_of
from raysweep.spec import Hyperparameters, SweepSpec
from raysweep.tasks import Task
from tests.support import broken_tasks
from tests.support.commands import run_here

HERE = Path(__file__).parents[1] / "support"

# By task: "error" or "warning", and what its line says.
FAULTS = {
    "misspelt_field": (
        "error",
        r"trial\.num_heads is not a field of a trial.*broken_tasks\.py, line \d+",
    ),
    "raises": ("error", r"ValueError: head_dim must divide width \(broken_tasks\.py, line \d+\)"),
    "raises_at_8": ("error", r"width 8: ValueError: eight is too narrow \(broken_tasks"),
    "no_module": ("error", r"build\(\) gave \w+, not a torch\.nn\.Module"),
    "wrong_inputs": ("error", r"RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    "seven_outputs": ("error", r"shape \(\d+, 7\); \(\d+, 3\) is needed, one output for each of"),
    "three_axes": ("error", r"shape|size"),
    "gives_tuple": ("error", r"tuple"),
    "softmax": ("warning", r"a softmax stands before the loss"),
    "sigmoid": ("warning", r"a sigmoid stands before the loss"),
    "relu": ("warning", r"a ReLU stands before the loss"),
    "nan_outputs": ("error", r"outputs hold NaN or infinite values before anything is learnt"),
    "huge_outputs": ("warning", r"far above that of guessing, 1\.099"),
    "detached": ("error", r"does not require grad|changes no parameter"),
    "restless": ("warning", r"in eval mode it gives other outputs"),
    "quits": ("error", r"SystemExit: 1 \(broken_tasks\.py, line \d+\)"),
    "no_gradient": ("error", r"does not require grad|changes no parameter"),
    "unused": ("warning", r"2 of 4 parameters get no gradient: unused\.weight, unused\.bias"),
    "leak": ("error", r"120 of 120 validation examples are training examples as well"),
    "half_leak": ("error", r"80 of 120 validation examples are training examples as well"),
    "small_leak": ("warning", r"10 of 90 validation examples are training examples as well"),
    "one_class": ("error", r"all training examples are of class 0"),
    "from_one": ("error", r"classes 1 to 3; allowed: 0 to 2.*subtract 1"),
    "nan_inputs": ("error", r"train: x has \d+ values that are not finite"),
    "all_same": ("error", r"all 120 training inputs that were read are the same"),
    "float_targets": ("error", r"classes of type float64; whole numbers are needed.*loss=\.\.\."),
    "unscaled": ("warning", r"are the inputs scaled\?"),
    "missing_class": ("warning", r"classes that are in validation, and not in train: 2"),
    "shaken_rows": ("error", r"64 of 64 validation examples differ when they are read a second"),
    "rows_from_one": ("error", r"train has classes 0 to 3; allowed: 0 to 2.*subtract 1"),
    "nan_rows": ("error", r"1 of 64 examples of train that were read hold values"),
    "dict_rows": ("error", r"a mapping without 'labels', its target: it has pixel_values, label"),
    "late_rows": ("error", r"OSError: picture 5 is cut short \(broken_tasks\.py, line \d+\)"),
    "endless": ("error", r"an IterableDataset, which has no length.*steps_per_epoch"),
    "endless_validation": ("error", r"validation is an IterableDataset.*needs a length"),
    "no_digest": ("error", r"needs Data\(digest=\.\.\.\)"),
    "no_data": ("error", r"TypeError.*broken_tasks\.py, line \d+.*names no `data:` folder"),
    "random_load": ("error", r"load\(\) gives other data each time"),
    "no_collate": ("error", r"two examples make no batch"),
    "missing_file": ("error", r"load\(\) failed: FileNotFoundError.*broken_tasks\.py, line \d+"),
}


@pytest.fixture
def sweep(tmp_path):
    """Writes a sweep of one of the broken tasks."""

    def write(task, **changes):
        content = {"name": "s", "task": f"broken_tasks:{task}", "seeds": 1}
        content |= {"base": {"batch_size": 16}, "axes": {"width": [8, 16]}} | changes
        (tmp_path / "broken_tasks.py").write_text((HERE / "broken_tasks.py").read_text())
        file = tmp_path / "sweep.yaml"
        file.write_text(repr(content))
        return str(file)

    return write


@pytest.fixture
def found(sweep, monkeypatch):
    """What a check finds, in this process: a child's start takes seconds."""
    monkeypatch.syspath_prepend(str(HERE))

    def find(task, **changes):
        def here(function, *arguments, folder=None):
            try:
                yield from function(*arguments)
            except InputError as error:
                yield "error", str(error)
            except Exception as error:  # as in a child process
                yield "error", one_line(error, place_of(error))

        with monkeypatch.context() as patched:
            patched.setattr("raysweep.checking.check.heard", here)
            return check(sweep(task, **changes))

    return find


def test_the_list_names_every_broken_task():
    tasks = {name for name, value in vars(broken_tasks).items() if isinstance(value, Task)}
    assert tasks - {name for name in tasks if name.startswith("sound")} == {
        *FAULTS,
        "exits",
        "killed",
    }


@pytest.mark.parametrize("task", FAULTS)
def test_a_fault_is_one_line_that_says_what_and_where(found, task):
    kind, wanted = FAULTS[task]
    checked = found(task)
    lines = checked.errors if kind == "error" else checked.warnings
    (line,) = [line for line in lines if "axis width changes nothing" not in line]
    assert re.search(wanted, line), line
    assert "\n" not in line
    if kind == "warning":
        assert checked.errors == []


@pytest.mark.parametrize("task", ["sound", "sound_rows", "sound_torch"])
def test_a_sound_task_has_no_fault_and_says_what_it_is(found, task):
    checked = found(task)
    assert (checked.errors, checked.warnings) == ([], [])
    said = "\n".join(checked.said)
    assert "models: 2 tried" in said
    assert "120 training and 80 validation examples" in said
    assert "inputs (batch, 6) float32, outputs (batch, 3) float32, targets (batch) int64" in said
    assert "guessing gives 1.099" in said
    assert re.search(r"time on this CPU: [\d.e-]+ ms for a step of 16 examples", said)
    assert "forecast: 2 trials take about" in said


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("exits", "its process ended itself with exit code 3, while one batch of it was trained"),
        ("killed", "its process was ended by SIGKILL, while one batch of it was trained"),
    ],
)
def test_a_task_that_takes_its_process_with_it_is_one_line(sweep, task, line):
    (error,) = check(sweep(task, axes={})).errors
    assert error == line


def test_the_command_says_a_fault_in_one_line_and_ends_with_2(capsys, sweep):
    code, out, err = run_here(capsys, "check", sweep("raises"))
    assert code == 2
    assert (
        err
        == "raysweep: ValueError: head_dim must divide width (broken_tasks.py, line "
        + (err.rpartition("line ")[2])
    )
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


def test_the_command_says_first_that_nothing_keeps_a_sweep_from_being_trained(capsys, sweep):
    file = sweep("softmax", axes={})
    code, out, err = run_here(capsys, "check", file)
    assert (code, err) == (0, "")
    first, second, *_ = out.splitlines()
    assert first == f"nothing keeps {file} from being trained; 1 warning"
    assert second.startswith("warning: its outputs all lie between 0 and 1: a softmax")


PLAIN = Task(broken_tasks.load, broken_tasks.build)


class Own(Hyperparameters):
    """Fields of a task's own."""

    num_heads: int = 4
    mixup: float = 0.0


@pytest.mark.parametrize(
    ("base", "axes", "task", "read", "lines"),
    [
        ({"optimizer": "adam"}, {"momentum": [0.0, 0.9]}, PLAIN, (), ["optimizer adam has a mom"]),
        ({}, {"momentum": [0.0, 0.9]}, PLAIN, (), []),
        ({}, {"step_factor": [0.1, 0.5]}, PLAIN, (), ["schedule constant has no steps"]),
        ({"schedule": "step"}, {"step_factor": [0.1, 0.5]}, PLAIN, (), []),
        ({}, {"reference_batch_size": [64, 128]}, PLAIN, (), ["the learning rate is not scaled"]),
        ({"lr_scaling": "sqrt"}, {"reference_batch_size": [64, 128]}, PLAIN, (), []),
        ({}, {"lr_scaling": ["none", "linear"]}, PLAIN, (), ["batch_size is reference_batch_si"]),
        ({}, {"lr_scaling": ["none", "sqrt"], "batch_size": [64, 32]}, PLAIN, (), []),
        ({}, {"width": [8, 16]}, PLAIN, (), ["the task never reads trial.width"]),
        ({}, {"width": [8, 16]}, PLAIN, ("width",), []),
        ({}, {"dropout": [0.0, 0.5]}, PLAIN, ("width",), ["the task never reads trial.dropout"]),
        (
            {},
            {"momentum": [0.0, 0.9], "optimizer": ["sgd", "adam"]},
            PLAIN,
            (),
            ["changes nothing in 2 of 4 configurations"],
        ),
        (
            {},
            {"weight_decay": [0.0, 0.1]},
            PLAIN._replace(optimizer=lambda trial, model: None),
            (),
            ["the task's optimizer() never reads trial.weight_decay"],
        ),
        (
            {},
            {"label_smoothing": [0.0, 0.1]},
            PLAIN._replace(loss=lambda outputs, targets: outputs),
            (),
            ["the task's own loss()"],
        ),
        ({}, {"num_heads": [2, 4]}, PLAIN, (), ["the task never reads trial.num_heads"]),
        ({}, {"num_heads": [2, 4], "mixup": [0.0, 1.0]}, PLAIN, ("num_heads", "mixup"), []),
    ],
)
def test_axes_that_change_nothing_are_named_with_the_reason(base, axes, task, read, lines):
    content = {"name": "s", "task": "m:t", "base": base, "axes": axes}
    spec = SweepSpec.from_mapping(content, hyperparameters=Own)
    said = list(idle_axes(spec, task, read))
    assert len(said) == len(lines)
    for line, wanted in zip(said, lines, strict=True):
        assert wanted in line


@pytest.mark.parametrize("recipe", ["digits", "batch-size", "dropout", "small-validation"])
def test_nothing_is_wrong_with_the_recipes_that_ship(recipe):
    kinds = {kind for kind, *_ in try_sweep(recipe, [], None)}
    assert not kinds & {"error", "warning"}
