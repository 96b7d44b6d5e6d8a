"""Makes the table of cut-offs of the harm test, and the page of its and the verdict's error rates,
of which the report's footer tells the most important ones (analysis/page/error_rates.json).

python -m analysis.calibration                 # all; about 20 minutes of one core
python -m analysis.calibration --only cutoffs  # analysis/measures/cutoffs.json alone
python -m analysis.calibration --quick         # few curves, to see that it runs
"""

import argparse
import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from analysis.calibration.error_page import FIGURE, figure, page, summary
from analysis.calibration.error_rates import PARTS as _CELLS
from analysis.calibration.false_claims import false_claims
from analysis.calibration.rises import measure_rises
from analysis.calibration.simulate import ar1
from analysis.curves import Floats
from analysis.measures.cutoffs import Cutoffs, of_json
from analysis.measures.harm import LEVEL, largest_fall, window_noise
from analysis.stats.trend import segments
from analysis.stats.windows import window_length, window_means

SEED = 20260401
TARGET = 0.8  # of each level: a cut-off for 5 % is set at 4 %
LENGTHS = (11, 13, 15, 17, 20, 23, 24, 30, 31, 32, 40, 60, 90, 120, 200)
CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.9)
MIXED = tuple((rho, white) for rho in (0.8, 0.9) for white in (0.2, 0.4, 0.6, 0.8))
P = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001])
PARTS = _CELLS | {"false_claims": false_claims, "rises": measure_rises}
PACKAGE = Path(__file__).parents[1]


def make_cutoffs(num_curves: int, seed: int = SEED, lengths: tuple[int, ...] = LENGTHS) -> Cutoffs:
    """Cut-offs from `num_curves` flat curves for each length and kind of noise; all is normal.

    A curve's cut-off is the quantile of curves with AR(1) noise whose true correlation is the one
    that was estimated, times a factor for what is wrong with that: the same for all correlations,
    and just so large that the worst kind of noise exceeds its cut-offs in TARGET times the level.
    The kinds are AR(1) with CORRELATIONS, and MIXED: AR(1) plus independent noise.
    """
    fall = np.empty((len(lengths), len(CORRELATIONS), len(P)))
    pair = np.empty((len(lengths), len(CORRELATIONS)))
    for i, num_epochs in enumerate(lengths):
        rng = np.random.default_rng([seed, num_epochs])
        shape = (num_curves, num_epochs)
        pure = [standardised(noise(rng, shape, rho, 0.0)) for rho in CORRELATIONS]
        mixed = [standardised(noise(rng, shape, rho, share)) for rho, share in MIXED]
        largest, fixed, r = (np.array(values) for values in zip(*pure, *mixed, strict=True))
        for j, level in enumerate(P):
            fall[i, :, j] = _cutoff(largest, r, TARGET * level)
        pair[i] = _cutoff(fixed, r, TARGET * LEVEL)
        fall[i] = np.maximum.accumulate(fall[i], axis=1) + 1e-4 * np.arange(len(P))
    made_by = {
        "seed": seed,
        "version": metadata.version("raysweep"),
        "num_curves": num_curves,
        "mixed": [list(kind) for kind in MIXED],
        "target": TARGET,
    }
    tables = (np.array(lengths, float), np.array(CORRELATIONS), P, fall, pair)
    made = Cutoffs(*tables, made_by=made_by)
    return of_json(made.as_json())  # with the digits that are shipped


def noise(
    rng: np.random.Generator, shape: tuple[int, int], correlation: float, white: float
) -> Floats:
    """AR(1) of variance 1 - white plus independent noise of variance white."""
    slow = ar1(rng, shape, correlation).astype(float)
    if not white:
        return slow
    return np.sqrt(1 - white) * slow + np.sqrt(white) * rng.standard_normal(shape)


def standardised(values: Floats) -> tuple[Floats, Floats, Floats]:
    """The largest fall and that from the first window to the last, in SEs; the correlation."""
    num_epochs = values.shape[1]
    length = window_length(num_epochs)
    used = segments(np.ones((1, num_epochs))) >= 0
    sd, r = window_noise(values, np.broadcast_to(used, values.shape), length)
    se = sd * np.sqrt(2)
    means = window_means(values, length)
    return largest_fall(values, length) / se, (means[:, 0] - means[:, -1]) / se, r


def _cutoff(z: Floats, r: Floats, level: float) -> Floats:
    """For each of CORRELATIONS. Args: z, r: (kinds of noise, number of curves)."""
    pure = z[: len(CORRELATIONS)]
    nodes = np.maximum.accumulate(np.quantile(pure, 1 - level, axis=1))
    # How far each curve is above its cut-off; the factor is that ratio's quantile, at its largest.
    ratio = z / np.interp(r, CORRELATIONS, nodes)
    return nodes * np.quantile(ratio, 1 - level, axis=1).max()


def measure(part: str, scale: float, folder: Path) -> None:
    """Writes the rows of a part of the page into the folder, unless they are there."""
    path = folder / f"{part}.json"
    if path.exists():
        return
    _write(path, json.dumps(list(PARTS[part](scale))))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    sys.stderr.write(f"wrote {path}\n")


def main(argv: list[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibration")
    parser.add_argument("--quick", action="store_true", help="few curves: to see that it runs")
    parser.add_argument("--scale", type=float, default=1.0, help="1: 2,000 configurations a cell")
    parser.add_argument(
        "--only", choices=("cutoffs", *PARTS, "page"), action="append", help="a part of the work"
    )
    parser.add_argument("--out", type=Path, default=PACKAGE, help="folder of measures/, page/")
    parser.add_argument("--page", type=Path, default=PACKAGE.parent / "docs" / "error-rates.md")
    parser.add_argument(
        "--parts", type=Path, default=Path("results/calibration"), help="folder of measured rows"
    )
    args = parser.parse_args(argv)
    only = args.only or ("cutoffs", *PARTS, "page")
    if "cutoffs" in only:
        made = make_cutoffs(200 if args.quick else 30_000)
        text = json.dumps(made.as_json(), separators=(",", ":")) + "\n"
        _write(args.out / "measures" / "cutoffs.json", text)
    for part in PARTS:
        if part in only:
            measure(part, 0.01 if args.quick else args.scale, args.parts)
    if "page" in only:
        rows = {
            part: json.loads((args.parts / f"{part}.json").read_text("utf-8")) for part in PARTS
        }
        scale = "" if args.scale == 1 else f" --scale {args.scale:g}"
        _write(args.page, page(rows, f"python -m analysis.calibration{scale}"))
        told = json.dumps(summary(rows), indent=1, ensure_ascii=False) + "\n"
        _write(args.out / "page" / "error_rates.json", told)
        figure(rows["power"]).save(args.page.with_name(FIGURE))


if __name__ == "__main__":
    main()
