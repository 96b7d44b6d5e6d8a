"""docs/claims.md says what a store says, and speaks of the recipes that ship."""

import re
from pathlib import Path

from analysis import analyze
from analysis.claims.answers import answer_claims
from analysis.claims.measures import KINDS
from analysis.claims.page import page
from analysis.page.report import render
from analysis.words import capitalized
from raysweep import recipes
from raysweep.spec import SweepSpec
from tests.support.simulated import Curve, Sweep

PAGE = (Path(__file__).parents[2] / "docs" / "claims.md").read_text()


def test_the_page_repeats_each_claim_with_its_answer(tmp_path):
    claim = {"says": "dropout adds jitter", "measure": "jitter", "axis": "dropout"}
    content = {"name": "dropout", "task": "digits", "base": {"epochs": 40}, "seeds": 4}
    content |= {"axes": {"dropout": [0.0, 0.5]}, "claim": claim | {"expect": "higher"}}
    sweep = Sweep(SweepSpec.from_mapping(content))
    found = analyze(sweep.write(tmp_path, lambda trial: Curve(jitter=0.002 + trial.dropout / 20)))
    (answer,) = answer_claims(found)
    (row,) = re.findall(r"^\| Dropout adds jitter\. .*$", page([found]), re.MULTILINE)
    assert answer.verdict == "held"
    assert f"**{answer.verdict}**" in row
    assert answer.finding[1:] in row
    assert "| `dropout` | `digits` | 8 | 4 | 500 |" in page([found])
    report = render(found)
    said = f"“{capitalized(answer.says)}.” {capitalized(answer.finding)}"
    assert f"<dt>Held</dt><dd>{said}</dd>" in report
    assert 'href="#claims"' in report


def test_a_report_of_a_sweep_without_a_claim_has_no_such_section(tmp_path):
    sweep = Sweep(SweepSpec.from_mapping({"name": "none", "task": "digits"}))
    assert "#claims" not in render(analyze(sweep.write(tmp_path, lambda trial: Curve())))


def test_the_page_of_the_docs_holds_claims_of_recipes_that_ship():
    rows = re.findall(r"^\| (.+)\. \| `([\w-]+)` \| .* \| \*\*(.+)\*\* \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 20
    for says, name, verdict in rows:
        claims = [claim.says.lower() for claim in recipes.read(name).claim]
        assert says.lower() in claims, (name, says)
        assert verdict in ("held", "did not hold", "can't be told")
    for name in KINDS:
        assert f"| `{name}` |" in PAGE
