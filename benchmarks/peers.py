"""False alarms and power of what judges training curves, on curves whose truth is known.

python benchmarks/peers.py > docs/peers.md      # installs each peer, see --cache
python benchmarks/peers.py --only raysweep      # of some alone, without their prose
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.calibration.judged import judged
from analysis.calibration.still_curves import SIZES, TIMES, still
from analysis.curves import Curves, Floats
from analysis.labels import Overfit

SEED = 20261128
_NUM = 100  # curves a cell
_SHORT = 20
_CACHE = Path.home() / ".cache" / "raysweep" / "peers"
_LOSS_OF_TRAINING = 0.005  # SD of an epoch's training loss, as a share
_GAP, _CLOSE = (0.1, 0.5), (0.0, 0.03)  # see Cell.gap
_ACCURACY_FALLS = (Overfit.YES, Overfit.ENDS_WORSE, Overfit.RUN_FELL)
_LOSS_RISES = (Overfit.LOSS_RISES, Overfit.LOSS_ALONE, Overfit.OVER_CONFIDENT)


class Cell(NamedTuple):
    """What the mean of the curves does: falls of the accuracy, rises of the loss, as shares."""

    name: str
    fall: float
    rise: float
    gap: tuple[float, float]  # how far a still loss ends above training's, drawn for each curve


CELLS = (
    Cell("still", 0.0, 0.0, _GAP),
    Cell("still, no gap", 0.0, 0.0, _CLOSE),
    Cell("−3 pp, loss +10 %", 0.03, 0.1, _GAP),
    Cell("−8 pp, loss +30 %", 0.08, 0.3, _GAP),
)
Told = dict[str, list[bool]]


class Peer(NamedTuple):
    """A package on PyPI that judges curves."""

    version: str
    made_for: str
    used: str


PEERS = {
    "losslint": Peer(
        "0.4.1",
        "a linter of logs for the terminal and CI",
        "JSON lines; its check `overfit_onset`",
    ),
    "runmedic": Peer(
        "0.1.1",
        "a diagnosis of any logger's run, for people and coding agents",
        "JSON lines; its check `overfitting`, from mild or from warning on",
    ),
    "trainproof": Peer(
        "0.22.0",
        "mechanical failures of a run; quiet by design",
        "records with `loss` and `eval_loss`; `TP-OVERFIT`",
    ),
    "finetune-doctor": Peer(
        "0.2.2",
        "which checkpoint of a Hugging Face fine-tune to keep",
        "`trainer_state.json`, ranked by loss or by accuracy; a warning or more",
    ),
    "gradsnitch": Peer(
        "0.1.0",
        "a live monitor of steps: gradients, losses, rates",
        "a frame with 100 steps an epoch; rule GS004",
    ),
    "trainspotter": Peer(
        "0.2.6",
        "pathologies of a training log, with a report",
        "`trainer_state.json`; `overfitting` as a warning",
    ),
    "training-doctor": Peer(
        "0.1.0",
        "live diagnosis of step-level metrics",
        "100 steps an epoch, metrics named `train_loss` and `eval_loss`",
    ),
    "trainlens": Peer(
        "0.20.0",
        "an explanation of what a notebook holds",
        "a Keras history with losses and accuracies",
    ),
    "epochix": Peer(
        "0.7.36",
        "a live story of what a training prints",
        "its detector, epoch by epoch; the warning that stands at the end",
    ),
    "sk-autod": Peer(
        "0.1.1",
        "a quick check of two lists of losses",
        "both lists; `Classic overfitting`",
    ),
    "pulseml": Peer(
        "1.3.14",
        "a live monitor of a training process",
        "its engine, epoch by epoch; what it raised till the end, without its language model",
    ),
    "runwise": Peer(
        "0.4.0",
        "short summaries of W&B runs for agents",
        "20 rows an epoch, the training loss interpolated, as it asks for 500 rows",
    ),
    "hyperassist": Peer(
        "0.0.3",
        "a reading of printed logs",
        "one value a line, which its patterns need",
    ),
}
RULER = "ruler: last loss above its minimum"
OURS = "raysweep"


def main() -> None:
    """Print the page, or the rows of some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[*PEERS, "ruler", OURS])
    parser.add_argument("--curves", type=int, default=_NUM, help="curves a cell")
    parser.add_argument("--short", action="store_true", help="few curves")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="where peers are installed")
    given = parser.parse_args()
    num = _SHORT if given.short else given.curves
    cells = {(cell, size): curves_of(cell, size, num) for cell in CELLS for size in SIZES}
    wanted = given.only or [*PEERS, "ruler", OURS]
    missing, rows = {}, []
    for name in (one for one in PEERS if one in wanted):
        try:
            python = installed(name, given.cache)
        except subprocess.CalledProcessError as error:
            missing[name] = (error.stderr or "").strip().splitlines()[-1:]
            continue
        told = asked(python, name, cells)
        rows += [line(f"{name}: {words}", by_cell) for words, by_cell in told.items()]
    if "ruler" in wanted:
        rows += [line(f"{RULER} by {share} %", ruler(cells, share)) for share in (5, 10)]
    if OURS in wanted:
        rows += [line(f"**{OURS}: {words}**", told) for words, told in ours(cells).items()]
    table = "\n".join([*HEAD, *rows])
    print(table if given.only else page(table, num, missing))


def curves_of(cell: Cell, num_val: int, num: int) -> Curves:
    """Simulate curves whose jitter the validation set makes alone, half of them quick learners.

    Returns: curves with losses and accuracies, those of training in eval mode.
    """
    rng = np.random.default_rng([SEED, CELLS.index(cell), num_val])
    parts = []
    for learning in TIMES:
        made = still(rng, num // len(TIMES), num_val, cell.fall, cell.rise, learning)
        time = np.arange(1, made.num_epochs + 1)
        past = np.clip((time - 20) / (made.num_epochs - 20), 0, 1)
        gap = rng.uniform(*cell.gap, (len(made.val_n), 1))
        loss = (0.3 + 1.2 * np.exp(-time / learning)) * (1 - gap / (1 + gap) * past)
        noise = _LOSS_OF_TRAINING * rng.standard_normal(made.val_loss.shape)
        parts.append(dataclasses.replace(made, train_loss=loss * (1 + noise)))
    first, second = parts
    both = {
        field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)])
        for field in dataclasses.fields(first)
        if field.name != "trial_ids"
    }
    return Curves(trial_ids=[str(k) for k in range(len(both["val_n"]))], **both)


Cells = Mapping[tuple[Cell, int], Curves]
ByCell = dict[tuple[Cell, int], float]


def installed(name: str, cache: Path) -> Path:
    """Find the Python of a peer's own environment, which is made where it is not there.

    Raises: CalledProcessError where the peer can't be installed.
    """
    folder = cache / f"{name}-{PEERS[name].version}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "-q", f"{name}=={PEERS[name].version}"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        done.touch()
    return python


def asked(python: Path, name: str, cells: Cells) -> dict[str, ByCell]:
    """Ask a peer about all curves at once. Returns: what it can say -> how often it does."""
    curves = [curve for some in cells.values() for curve in plain(some)]
    worker = Path(__file__).parent / "judges" / "peers.py"
    done = subprocess.run(
        [python, worker, name],
        input=json.dumps(curves),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    return {words: rates(cells, told) for words, told in json.loads(done.stdout).items()}


def plain(curves: Curves) -> Iterator[dict[str, list[float]]]:
    """The curves one by one, as lists."""
    columns = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
    matrices = [getattr(curves, name).round(6) for name in columns]
    for rows in zip(*matrices, strict=True):
        yield {name: row.tolist() for name, row in zip(columns, rows, strict=True)}


def rates(cells: Cells, told: Sequence[bool]) -> ByCell:
    """How often something is told in each cell, of a list over all curves."""
    found, start = {}, 0
    for key, curves in cells.items():
        end = start + len(curves.trial_ids)
        found[key] = float(np.mean(told[start:end]))
        start = end
    return found


def ruler(cells: Cells, percent: int) -> ByCell:
    """What a plain threshold on the last loss says."""

    def exceeds(loss: Floats) -> float:
        return float(np.mean(loss[:, -1] > (1 + percent / 100) * loss.min(axis=1)))

    return {key: exceeds(curves.val_loss) for key, curves in cells.items()}


def ours(cells: Cells) -> dict[str, ByCell]:
    """What raysweep says of the same curves, each by itself."""
    labels = {key: judged(curves, 1)["overfit"] for key, curves in cells.items()}
    says = {
        "accuracy falls": _ACCURACY_FALLS,
        "accuracy falls or the loss rises": (*_ACCURACY_FALLS, *_LOSS_RISES),
    }
    return {
        words: {key: share_of(column, wanted) for key, column in labels.items()}
        for words, wanted in says.items()
    }


def share_of(labels: pl.Series, wanted: Sequence[str]) -> float:
    """How many of the labels are wanted ones."""
    return float(labels.is_in(list(wanted)).sum()) / len(labels)


HEAD = (
    f"| says overfitting, % | {' | '.join(cell.name for cell in CELLS)} |",
    f"|---|{'---|' * len(CELLS)}",
)


def line(name: str, found: ByCell) -> str:
    """A row of the table: a cell has a figure for each number of validation examples."""
    texts = [" / ".join(f"{100 * found[cell, size]:.3g}" for size in SIZES) for cell in CELLS]
    return f"| {name} | {' | '.join(texts)} |"


def page(table: str, num: int, missing: Mapping[str, Sequence[str]]) -> str:
    """docs/peers.md. Args: missing: peers that can't be installed, and why."""
    sizes = " / ".join(f"{size:,}" for size in SIZES)
    used = [
        f"| [{name}](https://pypi.org/project/{name}/) {peer.version} "
        f"| {peer.made_for} | {peer.used} |"
        for name, peer in PEERS.items()
        if name not in missing
    ]
    absent = [f"- {name} can't be installed: {' '.join(why)}" for name, why in missing.items()]
    limit = 100 * (1 - 0.05 ** (1 / num))
    return PAGE.format(
        table=table,
        num=num,
        sizes=sizes,
        limit=limit,
        used="\n".join(used),
        absent="\n".join(absent),
    )


PAGE = """\
# What others say of the same curves

Packages on PyPI that judge training curves, and raysweep, on simulated curves whose truth is known.
The first two columns of figures are false alarms: the network stands still, and the curve jumps for
the size of the validation set alone. The last two are power. Each cell has three figures, for
{sizes} validation examples.

{table}

{num} curves a cell, 60 epochs, one seed, half of them quick learners (time constants of 2 and 4
epochs). *Still*: accuracy saturates at 94.5 % and the loss at 0.3; the training loss falls on,
until the validation loss is 10 to 50 % above it. *Still, no gap*: at most 3 %. *−3 pp*, *−8 pp*:
from epoch 20 on the mean accuracy falls and the mean loss rises in a straight line. In each epoch
the examples' part is drawn anew: the number of right answers is binomial, and the loss has a
standard deviation of 2.1 % at 200 examples. 0 of {num} is at most {limit:.1f} % (95 %).
`python benchmarks/peers.py > docs/peers.md` makes this page.

## How each was used

Each got what it asks for, as it is meant to be used; there are two rows where it has two grades.

| package | made for | given, and read |
|---|---|---|
{used}
{absent}

## How to read it

- Most of these packages look for more than overfitting: broken losses, gradients, schedules, slow
  loaders, checkpoints to delete. This page is about one question of many.
- These curves are kind to plain thresholds: rises of 10 and 30 % are far beyond the noise of 1,000
  examples, where the ruler of 5 % does as well as anybody. Small sets, and networks that move by
  themselves, which are not on this page, are what it can't tell.
- raysweep alone is told how many validation examples there are; none of the others takes that
  number. It reads accuracy and loss; most others read the loss.
- A gap is no harm, and a threshold on it tells the gaps that were drawn here, not the falls.
"""


if __name__ == "__main__":
    main()
