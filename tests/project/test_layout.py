"""The house: small folders, small modules, and a map of its packages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("raysweep", "analysis")
TREES = (*PACKAGES, "tests", "benchmarks")
FOLDERS = sorted({path.parent for tree in TREES for path in (ROOT / tree).rglob("*.py")})


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_folder_holds_at_most_16_modules(folder):
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 16, modules


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_module_has_at_most_400_lines_and_says_first_what_it_is(folder):
    for path in folder.glob("*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 400, path
        assert (not lines and path.name == "__init__.py") or lines[0].startswith('"""'), path


def test_the_map_of_the_readme_names_every_package_in_20_lines():
    (map_,) = re.findall(
        r"```\n(raysweep/ .*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL
    )
    assert len(map_.splitlines()) <= 20
    found = {path.parent for tree in PACKAGES for path in (ROOT / tree).glob("*/__init__.py")}
    named = set(re.findall(r"(\w+)/", map_))
    assert {path.name for path in found} <= named
    assert all(any((ROOT / top / word).is_dir() for top in ("", *PACKAGES)) for word in named)


def test_one_module_alone_knows_names_of_ray_that_are_not_public():
    private = re.compile(
        r"^\s*(?:from|import) ray\.(?:[\w.]*\b_|core|experimental|autoscaler)", re.M
    )
    knowing = [
        path for path in (ROOT / "raysweep").rglob("*.py") if private.search(path.read_text())
    ]
    assert knowing == [ROOT / "raysweep" / "cluster" / "ray_internals.py"]
