"""What keeps strangers' files from running code, and what the pins promise."""

import ast
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("raysweep", "analysis") for path in (ROOT / folder).rglob("*.py")
)
# Each of them runs code that stands in what it reads, or may be told to.
RUN_CODE = {
    "pickle": None,
    "dill": None,
    "cloudpickle": None,
    "joblib": None,
    "shelve": None,
    "marshal": None,
    "jsonpickle": None,
    "eval": None,
    "exec": None,
}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call):
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run_code(path):
    tree = ast.parse(path.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
    }
    allowed = {"pickle"} if path.name == "child.py" else set()  # from the parent, by a pipe
    assert not imported & RUN_CODE.keys() - allowed
    for name, call in calls(path):
        said = keywords(call)
        where = f"{path}:{call.lineno}"
        assert name not in ("eval", "exec"), where
        if name.endswith("torch.load") or (name == "load" and "torch" in ast.unparse(call)):
            assert said.get("weights_only") == "True", where
        if name.endswith(("np.load", "numpy.load")):
            assert said.get("allow_pickle", "False") == "False", where
        assert said.get("allow_pickle", "False") == "False", where
        assert not name.endswith(("unsafe_load", "full_load", "yaml.load_all")), where
        if name.endswith("yaml.load"):
            assert said.get("Loader") in ("_Strict", "yaml.SafeLoader"), where
        if name.startswith("subprocess."):
            assert said.get("shell", "False") == "False", where
        assert name not in ("os.system", "os.popen"), where


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_pin_is_exact_and_stands_once():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines)
    assert len(pins()) == len(lines)


def test_all_that_raysweep_needs_is_pinned_installed_and_agrees():
    """As far as this can be known without the network: it tells nothing of known weaknesses."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        Requirement(text) for text in [*project["dependencies"], *extras["run"], *extras["dev"]]
    ]
    ahead = [(one, "raysweep") for one in wanted if one.name != "raysweep"]
    seen, pinned, wrong = set(), pins(), []
    while ahead:
        requirement, owner = ahead.pop()
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""}
        ):
            continue
        name = canonicalize_name(requirement.name)
        if name == "setuptools":
            continue  # comes with Python's own environments
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name}, that {owner} needs, is not installed")
            continue
        version = Version(found.version).public  # torch's builds for CPU and CUDA share one
        exact = any(one.operator == "==" for one in requirement.specifier)
        if pinned.get(name) != version and not (name not in pinned and exact):
            wrong.append(f"{name} {version} is installed, {pinned.get(name, 'nothing')} pinned")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{owner} needs {requirement}, {version} is installed")
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in found.requires or []:
                inner = Requirement(text)
                if inner.marker is None:
                    if not extra:
                        ahead.append((inner, name))
                elif inner.marker.evaluate({"extra": extra}):
                    inner.marker = None
                    ahead.append((inner, name))
    assert not wrong
    assert len(seen) > 60
