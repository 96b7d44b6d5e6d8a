"""docs/claims.md: `python -m analysis.claims.page STORE... > docs/claims.md` writes it."""

import sys
from collections.abc import Sequence

from analysis.claims.answers import ClaimAnswer, answer_claims
from analysis.claims.measures import KINDS
from analysis.results import Analysis, analyze
from analysis.words import capitalized

_HEAD = """\
# What people say about a jumping validation curve

Each row is a sentence that people say, put to the test by a recipe that ships: `raysweep run NAME`
trains it, and ends with the same sentence and answer. *Held*: the whole 95 % interval is on the
side that the sentence says. *Did not hold*: the interval leaves no room for a change that counts.
*Can't be told*: neither, with so many seeds. One interval in twenty misses the truth by chance. The
answers speak of small networks on small data, and of the settings of the recipe: change those with
`--set`, and see whether the answer holds for yours. `batch-size` and `learning-rate` got their
dropout after a first run without it: where a network learns its training set by heart, its curve
comes to rest at small batches and high rates, and these two sentences did not hold.

Made by `python -m analysis.claims.page` from the stores of full runs; no figure is typed in.
"""
_MEASURES = """
## What decides a claim

Each comparison is paired by seed and by all axes that the claim does not name. Its limits come from
leaving out one seed at a time: they say what other seeds would have given on the same validation
set. A claim in your own sweep file takes the same words: [the sweep file](sweep-file.md#claim).

| measure | what it is | smallest change that counts |
|---|---|---|
"""


def page(analyses: Sequence[Analysis]) -> str:
    """Write the whole page in Markdown from analysed sweeps that have claims."""
    parts = [_HEAD, "| people say | recipe | measured | answer |\n|---|---|---|---|"]
    answered = [(analysis, answer_claims(analysis)) for analysis in analyses]
    for analysis, answers in answered:
        name = analysis.record["spec"]["name"]
        parts += [_row(answer, name) for answer in answers]
    parts.append("\n## The runs\n\n| recipe | task | trials | seeds | validation images |")
    parts.append("|---|---|---:|---:|---:|")
    parts += [_run(analysis) for analysis, _ in answered]
    parts.append(_MEASURES.rstrip("\n"))
    for name, kind in KINDS.items():
        times = kind.is_ratio
        least = f"{kind.margin:g} of the ratio" if times else f"{kind.scale * kind.margin:g}"
        unit = "" if times else f" {kind.unit}"
        words = capitalized(kind.words)
        parts.append(f"| `{name}` | {words} | {least + unit if kind.margin else 'any'} |")
    return "\n".join(parts) + "\n"


def _row(answer: ClaimAnswer, recipe: str) -> str:
    finding = capitalized(answer.finding)
    return f"| {capitalized(answer.says)}. | `{recipe}` | {finding} | **{answer.verdict}** |"


def _run(analysis: Analysis) -> str:
    spec, trials = analysis.record["spec"], analysis.trials
    sizes = sorted(set(trials["n_val"].drop_nulls()))
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return (
        f"| `{spec['name']}` | `{spec['task']}` | {trials.height} | {len(spec['seeds'])} | {size} |"
    )


if __name__ == "__main__":
    sys.stdout.write(page([analyze(store) for store in sys.argv[1:]]))
