"""Which files a task is made of: over layouts, places to run from, and edits."""

import contextlib
import importlib.util
import os
import site
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from raysweep.errors import InputError
from raysweep.tasks import find_task
from raysweep.tasks.sources import fingerprints, pack, unlike

TASK = """
from raysweep.tasks import Task
from raysweep.tasks.digits import load
{imports}
task = Task(load, lambda trial, data: make(trial.width))
"""
OTHER = "from raysweep.tasks.digits import task\n"
NET = "from torch import nn\nimport {depth}\ndef make(width): return nn.Linear(64, 10)\n"

# Of each layout: the task, and its files. Those without a content are not imported by the task.
LAYOUTS = {
    "one file": (
        "my_task:task",
        {
            "my_task.py": TASK.format(imports="from torch import nn\nmake = nn.Identity"),
            "other.py": None,
        },
    ),
    "helper beside": (
        "my_task:task",
        {
            "my_task.py": TASK.format(imports="from helper import make"),
            "helper.py": NET.format(depth="constants"),
            "constants.py": "DEPTH = 1\n",
            "other.py": None,
        },
    ),
    "package": (
        "mine.tasks.digits:task",
        {
            "mine/__init__.py": "NAME = 'mine'\n",
            "mine/tasks/__init__.py": "",
            "mine/tasks/digits.py": TASK.format(imports="from ..models.net import make"),
            "mine/models/__init__.py": "",
            "mine/models/net.py": NET.format(depth="mine.constants"),
            "mine/constants.py": "",
            "mine/tasks/other.py": None,
            "mine/models/unused.py": None,
        },
    ),
    "src": (
        "mine.task:task",
        {
            "src/mine/__init__.py": "",
            "src/mine/task.py": TASK.format(imports="from mine import make"),
            "src/mine/net.py": NET.format(depth="mine_constants.values"),
            "src/mine_constants/__init__.py": "VALUE = 1\n",
            "src/mine_constants/values.py": "",
            "src/mine/other.py": None,
        },
    ),
    "namespace": (
        "tasks_of_mine.digits:task",
        {
            "tasks_of_mine/digits.py": TASK.format(imports="from models_of_mine.net import make"),
            "models_of_mine/net.py": NET.format(depth="models_of_mine.deep.constants"),
            "models_of_mine/deep/constants.py": "",
            "tasks_of_mine/other.py": None,
            "models_of_mine/unused.py": None,
        },
    ),
}
LAYOUTS["src"][1]["src/mine/__init__.py"] = "from mine.net import make\n"


@contextlib.contextmanager
def like_a_new_process():
    """Whatever is imported in here, or put on the path, is forgotten after it."""
    modules, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    try:
        yield
    finally:
        for name in sys.modules.keys() - modules.keys():
            del sys.modules[name]
        sys.path[:], sys.meta_path[:] = path, finders


def lay_out(root, files, *, bare=OTHER):
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(bare if content is None else content)
    if (root / "src").is_dir():  # what an editable install leaves in site-packages
        (root / "site").mkdir()
        (root / "site" / "mine.pth").write_text(f"{root / 'src'}\n")


def found(reference, root, cwd, monkeypatch):
    with like_a_new_process(), monkeypatch.context() as moved:
        moved.chdir(cwd)
        if (root / "site").is_dir():
            site.addsitedir(str(root / "site"))
        return find_task(reference, root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_edit_of_what_a_task_imports_changes_its_digest_and_no_other_edit_does(
    layout, tmp_path, monkeypatch
):
    reference, files = LAYOUTS[layout]
    root = tmp_path / "project"
    lay_out(root, files)
    module, _, _ = reference.partition(":")
    unused = f"{module.rpartition('.')[0]}.other".lstrip(".") + ":task"

    def digests():
        inside, above, other = (
            found(task, root, cwd, monkeypatch)
            for task, cwd in ((reference, root), (reference, tmp_path), (unused, root))
        )
        assert inside.digest == above.digest
        return inside, other

    before = digests()
    for name, content in files.items():
        with open(root / name, "a") as file:
            file.write("EDITED = True\n")
        now = digests()
        changed = [one.digest != then.digest for one, then in zip(now, before, strict=True)]
        assert now[1].files is not None
        assert changed == [content is not None, root / name in now[1].files.values()], name
        before = now


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_packed_is_enough_to_import_the_task_elsewhere(layout, tmp_path, monkeypatch):
    reference, files = LAYOUTS[layout]
    lay_out(tmp_path / "project", files)
    for name in ("elsewhere", "packed"):
        (tmp_path / name).mkdir()
    source = found(reference, tmp_path / "project", tmp_path, monkeypatch)
    assert source.files is not None
    parts = pack(source.files, tmp_path / "packed")
    assert {part.parent for part in parts} == {tmp_path / "packed"}
    with like_a_new_process():
        monkeypatch.chdir(tmp_path / "elsewhere")
        sys.path.append(str(parts[0].parent))
        again = find_task(reference)
        assert again.digest == source.digest
        assert again.task.build.__code__.co_code == source.task.build.__code__.co_code
        assert unlike(fingerprints(source.files)) is None
        changed = next(iter(source.files))
        expected = fingerprints(source.files) | {changed: "0"}
        assert again.files is not None
        assert unlike(expected) == again.files[changed]
        assert unlike({"no_such_module": "0"}) == Path("no_such_module")


@pytest.mark.parametrize(
    "code",
    [
        "def build(trial, data):\n    from helper import make\n    return make(1)",
        "import importlib\nmake = importlib.import_module('helper').make",
        "make = __import__('helper').make",
        "import importlib\nname = 'helper'\nmake = importlib.import_module(name).make",
        "import importlib\nfor one in ['per']:\n    importlib.import_module(f'hel{one}')",
        "from nets import *",
        "from nets import load_nets\nload_nets()",
        "import nets.plain",
        "try:\n    import no_such_thing\nexcept ImportError:\n    import helper",
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import helper as h",
        "exec('import ' + 'helper')",  # no import statement to read, but it is imported
    ],
)
def test_every_way_of_importing_a_helper_counts(code, tmp_path, monkeypatch):
    lay_out(
        tmp_path,
        {
            "my_task.py": f"{OTHER}{code}\n",
            "helper.py": "def make(width): return None\n",
            "nets/__init__.py": "import importlib\n__all__ = ['listed']\n"
            "def load_nets():\n"
            "    for name in ('plain',):\n        importlib.import_module(f'.{name}', __name__)\n",
            "nets/listed.py": "import helper\n",
            "nets/plain.py": "import helper\n",
        },
    )
    first = found("my_task:task", tmp_path, tmp_path, monkeypatch)
    (tmp_path / "helper.py").write_text("def make(width): return 1\n")
    assert found("my_task:task", tmp_path, tmp_path, monkeypatch).digest != first.digest
    assert "helper" in (first.files or {})


def test_what_is_installed_or_standard_does_not_count(tmp_path, monkeypatch):
    """Neither in this interpreter, nor by `pip install --target` into the task's own folder."""
    lay_out(
        tmp_path,
        {
            "my_task.py": f"import json, numpy, pytest, bought, torch\n{OTHER}",
            "bought/__init__.py": "",
            "bought-1.0.dist-info/RECORD": "bought/__init__.py,,\n",
        },
    )
    first = found("my_task:task", tmp_path, tmp_path, monkeypatch)
    assert first.files == {"my_task": tmp_path / "my_task.py"}


def test_a_task_finds_an_editable_install_that_hooks_into_imports(tmp_path, monkeypatch):
    """As setuptools makes them where the folders are not those of the packages."""
    lay_out(tmp_path, {"my_task.py": f"import mine.net\n{OTHER}", "code/__init__.py": ""})
    (tmp_path / "code" / "net.py").write_text("")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != "mine":
                return None
            return importlib.util.spec_from_file_location(name, tmp_path / "code" / "__init__.py")

    with like_a_new_process():
        sys.meta_path.append(Finder)
        files = find_task("my_task:task", tmp_path).files
    assert files is not None
    assert files["mine.net"] == tmp_path / "code" / "net.py"
    (tmp_path / "packed").mkdir()
    parts = pack(files, tmp_path / "packed")
    assert [part.name for part in parts] == ["mine", "my_task.py"]
    assert (parts[0] / "net.py").is_file()


def test_a_shipped_task_is_its_own_module_and_those_beside_it():
    source = find_task("noisy_digits")
    assert source.files is None
    assert len({find_task(name).digest for name in ("digits", "noisy_digits", "few_digits")}) == 3


def test_a_module_that_is_imported_nowhere_costs_nothing(tmp_path, monkeypatch):
    """Names are looked up without importing what they are in: that may do anything."""
    lay_out(
        tmp_path,
        {
            "my_task.py": f"{OTHER}def build(trial, data):\n    import trap.inner\n",
            "trap/__init__.py": "raise SystemExit('imported')\n",
            "trap/inner.py": "this is no Python\n",
        },
    )
    source = found("my_task:task", tmp_path, tmp_path, monkeypatch)
    assert set(source.files or {}) == {"my_task", "trap", "trap.inner"}


@pytest.mark.parametrize(
    "error", ["raise ValueError('x\\ny')", "1 +", "import sys; sys.exit('no')"]
)
def test_a_task_that_does_not_import_is_refused_in_one_line(error, tmp_path, monkeypatch):
    lay_out(tmp_path, {"my_task.py": error})
    with pytest.raises(InputError) as refused:
        found("my_task:task", tmp_path, tmp_path, monkeypatch)
    assert "\n" not in str(refused.value)
    assert "my_task" in str(refused.value)


def test_a_new_process_finds_the_same_digest(tmp_path, monkeypatch):
    reference, files = LAYOUTS["package"]
    lay_out(tmp_path, files)
    source = found(reference, tmp_path, tmp_path, monkeypatch)
    script = f"from raysweep.tasks import find_task\nprint(find_task({reference!r}).digest)"
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), "."])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [source.digest]
