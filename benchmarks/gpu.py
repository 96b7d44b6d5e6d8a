"""What a GPU gives: bf16 beside fp32, and trials that share one.

`python benchmarks/gpu.py [--repeats 3] [--shares 1 0.5 0.25]`; without a GPU only the first part of
`--short` runs, on the CPU.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import measure
import torch
from problems import SEED, Problem, epochs_in_turn, learner, problem, synthetic

from raysweep.training.passes import train_epoch

RATES = (0.01, 0.02, 0.05, 0.1)
# Examples, batch size, epochs, width of the three hidden layers.
SIZES = [(50_000, 128, 3, 128), (50_000, 1_024, 3, 1_024), (50_000, 4_096, 3, 4_096)]


def precision(
    device: torch.device, repeats: int, n: int, size: int, epochs: int, width: int
) -> None:
    """Print the training pass of a model at both precisions."""
    data, runs = synthetic(n), dict[str, Callable[[int], object]]()

    def passes(one: Problem) -> Callable[[int], object]:
        state = learner(one)
        return lambda epoch: train_epoch(*state, one.fields, one.train_set, SEED, epoch, one.group)

    for kind in ("fp32", "bf16"):
        one = problem(kind, data, size, epochs, device, width=width, depth=3, precision=kind)
        runs[kind] = passes(one)
    found = epochs_in_turn(range(1, epochs + 1), runs, repeats)
    name = f"Precision: {n:,} examples, batch {size:,}, 3 layers of {width:,}"
    print(measure.table(name, found, "fp32", "ms per epoch"), flush=True)


def sweep(share: float, num_trials: int, epochs: int) -> None:
    """Train digits on a Ray that this starts. Prints nothing; the time is the process's."""
    from raysweep import SweepSpec, run_sweep

    seeds = -(-num_trials // len(RATES))
    spec = SweepSpec.from_mapping(
        {
            "name": "shared",
            "task": "digits",
            "base": {"epochs": epochs, "batch_size": 32},
            "axes": {"learning_rate": list(RATES)},
            "seeds": seeds,
            "resources": {"gpus_per_worker": share},
        }
    )
    result = run_sweep(spec, "store", address="local")
    assert not result.failures, result.failures


def sharing(shares: Sequence[float], repeats: int, num_trials: int, epochs: int) -> None:
    """Print whole sweeps by how much of a GPU a trial asks for."""
    script = [str(Path(__file__)), "--sweep"]
    sizes = [str(num_trials), str(epochs)]
    contenders = {
        f"{share:g} of a GPU each": lambda share=share: measure.wall_seconds(
            [*script, f"{share:g}", *sizes]
        )
        for share in shares
    }
    title = f"{num_trials} trials of digits, {epochs} epochs, batch 32: the whole process"
    print(measure.table(title, measure.in_turn(contenders, repeats), next(iter(contenders))))


def main() -> None:
    """Print the tables."""
    parser = measure.options(__doc__)
    parser.add_argument("--shares", type=float, nargs="+", default=[1, 0.5, 0.25, 0.125])
    parser.add_argument("--sweep", nargs=3, help="share, trials, epochs: one contender")
    asked = parser.parse_args()
    if asked.sweep:
        share, num_trials, epochs = asked.sweep
        sweep(float(share), int(num_trials), int(epochs))
        return
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not asked.short:
        sys.exit("no CUDA device here: only --short runs without one")
    repeats = 1 if asked.short else asked.repeats
    print(measure.machine())
    device = torch.device("cuda" if has_gpu else "cpu")
    for sizes in [(1_000, 128, 3, 64)] if asked.short else SIZES:
        precision(device, repeats, *sizes)
    if has_gpu:
        sharing(asked.shares, repeats, *((4, 2) if asked.short else (24, 40)))
    else:
        print("\nno CUDA device here: no trials share one")


if __name__ == "__main__":
    main()
