"""How often what `analysis.stats.rise` says of a loss is wrong, on histories whose truth is known.

python -m analysis.calibration.rises           # 2,000 histories a cell; prints the page's section
python -m analysis.calibration.rises --scale 0.01
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from analysis.calibration.error_rates import rate
from analysis.calibration.simulate import ar1
from analysis.curves import Floats
from analysis.stats.rise import Told, loss_rises, told
from analysis.stats.windows import window_means

SEED = 20260403
SCHEDULES = ("flat", "step", "step, not logged", "cosine", "cosine, not logged")
LENGTHS = (50, 100, 200, 500)
NOISE = (0.003, 0.01, 0.05)
CORRELATIONS = (0.0, 0.5, 0.9)
RISES = (0.0, 0.02, 0.05, 0.1, 0.3)
_NUM = 2000  # histories a cell
_QUIET = 0.01  # noise at which a rise of 10 % has to be told
Rows = list[dict[str, Any]]


def history(
    rng: np.random.Generator,
    num: int,
    num_evaluations: int,
    schedule: str,
    *,
    noise: float,
    correlation: float,
    rise: float,
) -> tuple[Floats, Floats | None, float]:
    """Simulate losses that learn, stay, and rise in a straight line after the best evaluation.

    Steps of the rate at a half and at three quarters lower the loss, and halve its noise at the
    first; a cosine lowers both slowly.

    Args: noise: SD of an evaluation, as a share of the loss; correlation: AR of the noise; rise:
        from the best evaluation to the last, as a share.
    Returns: losses (num, T); rates (num, T), None where they are not logged; the true rise from the
        best window to the last, as a share.
    """
    time = np.arange(num_evaluations)
    part = time / num_evaluations
    loss = 0.5 + 2 * np.exp(-25 * part)
    rates, loud, best = np.ones(num_evaluations), np.ones(num_evaluations), 0.4
    if schedule.startswith("step"):
        rates = np.select([part < 0.5, part < 0.75], [1.0, 0.1], 0.01)
        loss += np.select([part < 0.5, part < 0.75], [0.4, 0.1], 0.0)
        loud, best = np.where(part < 0.5, 1.0, 0.5), 0.75
    elif schedule.startswith("cosine"):
        rates = 0.5 * (1 + np.cos(np.pi * part))
        loss += 0.1 * rates
        loud, best = 0.3 + 0.7 * rates, 0.6
    first = int(np.ceil(best * num_evaluations))
    if rise:
        left = np.linspace(0, 1, num_evaluations - first)
        loss[first:] = loss[first] * (1 + rise * left)
    shown = loss * (1 + noise * loud * ar1(rng, (num, num_evaluations), correlation))
    means = window_means(loss[None], max(1, num_evaluations // 20))[0]
    logged = None if "not logged" in schedule else np.tile(rates, (num, 1))
    return np.maximum(shown, 1e-3), logged, float(means[-1] / means.min() - 1)


def measure_rises(scale: float, lengths: tuple[int, ...] = LENGTHS) -> Iterator[dict[str, Any]]:
    """A row for each cell and each of: the limits that miss the truth, and the words told.

    Args: scale: 1 is what the page promises, smaller ones are quicker; lengths: evaluations.
    """
    num = max(20, int(_NUM * scale))
    cells = product(SCHEDULES, lengths, NOISE, CORRELATIONS, RISES)
    for number, (schedule, length, noise, correlation, rise) in enumerate(cells):
        rng = np.random.default_rng([SEED, number])
        made, logged, true = history(
            rng, num, length, schedule, noise=noise, correlation=correlation, rise=rise
        )
        found = loss_rises(made, logged)
        word = told(found)
        claims = {
            "lower limit above the truth": found.low > true + 1e-9,
            "upper limit below the truth": found.high < true - 1e-9,
            "risen for sure": found.low > 0,
            "told to rise": word == Told.RISES,
            "told not to rise": word == Told.DOES_NOT,
        }
        cell = {"schedule": schedule, "evaluations": length, "noise": noise, "AR": correlation}
        for claim, hits in claims.items():
            yield cell | {"rise": rise, "true": true, "claim": claim} | rate(int(hits.sum()), num)


def section(rows: Rows) -> str:
    """The section of docs/error-rates.md, in Markdown. Args: rows: of measure_rises()."""
    head = "| schedule | claim | cells | worst cell, % | in |\n|---|---|---|---|---|"
    false = [
        (schedule, claim, [row for row in of_claim if row["schedule"] == schedule], max)
        for claim, of_claim in _false_claims(rows).items()
        for schedule in SCHEDULES
    ]
    lines = [_line(*cell) for cell in false]
    power = [
        (schedule, f"a rise of {100 * rise:g} % found", of_rise, min)
        for rise in (0.1, 0.3)
        for schedule in SCHEDULES
        if (of_rise := _found(rows, schedule, rise))
    ]
    words = [(f"{100 * rise:g} %", *_words(rows, rise)) for rise in RISES]
    num = rows[0]["num"]
    return "\n".join(
        [
            "## The rise of a loss",
            "",
            "From the loss alone, one run: "
            f"{', '.join(map(str, LENGTHS))} evaluations, noise of "
            f"{', '.join(f'{100 * noise:g}' for noise in NOISE)} % of the loss with AR "
            f"{', '.join(f'{r:g}' for r in CORRELATIONS)}, rises of "
            f"{', '.join(f'{100 * rise:g}' for rise in RISES)} % from the best evaluation to the "
            f"last; {num:,} histories a cell, all cells counted. In brackets: the limits of the "
            "rate (two-sided 95 %).",
            "",
            head,
            *lines,
            "",
            f"Power, with noise of at most {100 * _QUIET:g} % (the worst cell is the lowest):",
            "",
            head,
            *[_line(*cell) for cell in power],
            "",
            "What is told, over all cells with noise of at most 1 %, and with 5 %:",
            "",
            "| true rise | rises | does not rise | rises, 5 % noise | does not rise, 5 % noise |",
            "|---|---|---|---|---|",
            *["| " + " | ".join(line) + " |" for line in words],
        ]
    )


def _false_claims(rows: Rows) -> dict[str, Rows]:
    limits = ("lower limit above the truth", "upper limit below the truth")
    found = {claim: [row for row in rows if row["claim"] == claim] for claim in limits}
    still = [row for row in rows if row["claim"] == "told to rise" and not row["rise"]]
    risen = [row for row in rows if row["claim"] == "told not to rise" and row["rise"] > 0.1]
    return found | {"told to rise, nothing rises": still, "told not to rise, 30 % rise": risen}


def _found(rows: Rows, schedule: str, rise: float) -> Rows:
    return [
        row
        for row in rows
        if row["claim"] == "risen for sure"
        and row["schedule"] == schedule
        and row["rise"] == rise
        and row["noise"] <= _QUIET
    ]


def _words(rows: Rows, rise: float) -> list[str]:
    cells = []
    for quiet, claim in product((True, False), ("told to rise", "told not to rise")):
        rates = [
            row["rate"]
            for row in rows
            if row["rise"] == rise and row["claim"] == claim and (row["noise"] <= _QUIET) == quiet
        ]
        cells.append(f"{100 * np.mean(rates):.0f} %")
    return cells


def _line(schedule: str, claim: str, cells: Rows, worst: Any) -> str:
    row = worst(cells, key=lambda cell: cell["rate"])
    where = (
        f"{row['evaluations']} evaluations, noise {100 * row['noise']:g} %, AR {row['AR']:g}, "
        f"rise {100 * row['rise']:g} %"
    )
    shown = f"{100 * row['rate']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
    return f"| {schedule} | {claim} | {len(cells)} | {shown} | {where} |"


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibration.rises")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the histories a cell")
    sys.stdout.write(section(list(measure_rises(parser.parse_args().scale))) + "\n")


if __name__ == "__main__":
    main()
