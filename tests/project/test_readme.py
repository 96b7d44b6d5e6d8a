"""The README is true: its links, its commands, its table, its code. So are the links of docs/."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from raysweep import recipes
from raysweep.plain_yaml import parse_yaml
from raysweep.spec import SweepSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition(" #")[0].strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line.strip()
]


def block(language, holding):
    (found,) = [body for kind, body in BLOCKS if kind == language and holding in body]
    return found


PAGES = [
    ROOT / "README.md",
    ROOT / "cluster" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def anchors(page):
    """Those that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        if name.startswith(("http:", "https:")):
            continue
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page not in reached:
            reached.add(page)
            links = re.findall(r"\]\(([^):#]+\.md)", page.read_text())
            ahead += [page.parent / link for link in links]
    assert {page.resolve() for page in PAGES} <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_code_of_the_pages_exist(page):
    text = page.read_text()
    for path in re.findall(r"`((?:analysis|raysweep|tests|benchmarks|docs)/[\w/]+\.py)", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"python ((?:docs|benchmarks)/[\w/]+\.py)", text):
        assert (ROOT / path).exists(), path


def test_the_tables_of_a_page_have_numbers_of_their_own():
    for page in PAGES:
        numbers = re.findall(r"^\*\*Table (\w+)\.", page.read_text(), re.MULTILINE)
        assert len(numbers) == len(set(numbers)), page


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("raysweep run")])
def test_run_commands_name_sweeps_that_can_be_read(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_sweep.yaml").write_text(block("yaml", "my_task:task"))
    _, _, target, *options = shlex.split(command)
    values = dict(itertools.pairwise(options))
    settings = [options[i + 1] for i, option in enumerate(options) if option == "--set"]
    recipes.read(target, settings, values.get("--seeds"))


def test_every_command_exists():
    from typer.main import get_command

    from raysweep.cli import app

    known = set(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    used = {shlex.split(c)[1] for c in COMMANDS if c.startswith("raysweep ")}
    assert used == known


def test_the_shown_sweep_and_the_python_lines_are_valid():
    sweep = SweepSpec.from_mapping(parse_yaml(block("yaml", "my_task:task"), source="README"))
    assert sweep.name == "mine"
    for language, body in BLOCKS:
        if language == "python":
            compile(body, "README", "exec")


def test_the_table_of_additions_names_files_that_exist():
    for path in re.findall(r"`((?:raysweep|analysis)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
