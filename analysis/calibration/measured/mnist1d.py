"""Tables 8 to 10 of docs/method/fluctuation.md: the decomposition on real training.

python -m analysis.calibration.measured.mnist1d

MNIST-1D (Greydanus and Kobak 2020, arXiv 2011.14439) is generated after its recipe, by the task of
that name, so that fresh examples can be had. Each trial trains a small MLP; its correctness on
20,000 fresh examples is kept for every epoch. Validation sets are then drawn from them with
replacement: the 20,000 *are* the population, and the truth is known exactly.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from analysis.calibration.measured.tables import Table, cells, write
from analysis.measures.decomposition import block_gram, population_interval, split_of_blocks
from analysis.stats.trend import contrast_variance, segments
from raysweep.tasks.mnist1d import examples

SEED = 20260102
NUM_BLOCKS = 20


class Setting(NamedTuple):
    """What a trial is trained with."""

    learning_rate: float
    batch_size: int
    dropout: float


SETTINGS = (
    Setting(0.03, 50, 0.0),
    Setting(0.1, 50, 0.0),
    Setting(0.1, 200, 0.0),
    Setting(0.3, 200, 0.0),
    Setting(0.1, 50, 0.3),
    Setting(0.1, 100, 0.1),
    Setting(0.3, 200, 0.3),
    Setting(0.03, 200, 0.0),
)


class Result(NamedTuple):
    """Of one trial. Variances are squared fractions; the estimates are means over sets."""

    setting: Setting
    accuracy: float  # of the population, at the end
    truth: float  # the population's own variance
    observed: float  # s^2 of a validation set: what a curve shows
    binomial: float  # s^2 less p (1 - p) / n
    from_blocks: float
    finite_share: float  # of the observed variance
    rejected: float  # share of sets with p < 0.05 for "population accuracy does not move"
    covered: float  # share of sets whose limits of pop_var hold the truth


def correctness(
    setting: Setting,
    train: tuple[torch.Tensor, torch.Tensor],
    population: tuple[torch.Tensor, torch.Tensor],
    num_epochs: int,
    seed: int,
) -> NDArray[np.bool_]:
    """Which example of the population is right at each epoch, (num_epochs, num)."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(40, 100),
        nn.ReLU(),
        nn.Dropout(setting.dropout),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Dropout(setting.dropout),
        nn.Linear(100, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=setting.learning_rate, momentum=0.9)
    x, y = train
    right = np.empty((num_epochs, len(population[1])), bool)
    for epoch in range(num_epochs):
        model.train()
        for batch in torch.randperm(len(y)).split(setting.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right[epoch] = (model(population[0]).argmax(dim=1) == population[1]).numpy()
    return right


def measure(
    setting: Setting,
    right: NDArray[np.bool_],
    num_val: int,
    num_sets: int,
    rng: np.random.Generator,
) -> Result:
    """The estimates of one trial over many validation sets. Args: right: (T, population)."""
    num_epochs, size = right.shape
    labels = segments(np.ones((1, num_epochs)))
    truth, hf_df = contrast_variance(right.mean(axis=1)[None], labels)
    weight = np.full((1, NUM_BLOCKS), 1 / NUM_BLOCKS)
    rows: list[list[float]] = []
    for _ in range(num_sets):
        seen = right[:, rng.integers(size, size=num_val)]
        accuracy = seen.mean(axis=1)
        blocks = seen.reshape(num_epochs, NUM_BLOCKS, -1).mean(axis=2)
        by_blocks = split_of_blocks(block_gram(blocks[None], weight, labels), weight, hf_df)
        s2, v = by_blocks.total_var[0], by_blocks.finite_var[0]
        low, high = population_interval(s2[None], v[None], by_blocks.total_df)
        p = accuracy[labels[0] >= 0]
        rows.append(
            [
                s2,
                s2 - float(np.mean(p * (1 - p))) / num_val,
                s2 - v,
                v,
                by_blocks.movement_p[0] < 0.05,
                low[0] < truth[0] < high[0],
            ]
        )
    s2, binomial, from_blocks, v, rejected, covered = np.mean(rows, axis=0)
    variances = (truth[0], s2, binomial, from_blocks)
    return Result(setting, right[-1].mean(), *variances, v / s2, rejected, covered)


def trained(
    settings: Sequence[Setting], num_population: int, num_epochs: int
) -> list[NDArray[np.bool_]]:
    """correctness() of one trial of each setting, trained on the same 4,000 examples."""
    torch.set_num_threads(1)
    x, y = examples(4000 + num_population, np.random.default_rng(SEED))
    x = (x - x[:4000].mean()) / x[:4000].std()
    signals, digits = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    train, population = (signals[:4000], digits[:4000]), (signals[4000:], digits[4000:])
    return [
        correctness(setting, train, population, num_epochs, SEED + number)
        for number, setting in enumerate(settings)
    ]


def relative_errors(found: Sequence[Result]) -> dict[str, float]:
    """Mean over trials of |estimate / truth - 1|."""
    return {
        name: float(np.mean([abs(getattr(one, name) / one.truth - 1) for one in found]))
        for name in ("from_blocks", "observed", "binomial")
    }


def main() -> None:
    """A Markdown table for each size of the validation set."""
    trials = trained(SETTINGS, num_population=20_000, num_epochs=60)
    for num_val, num_sets in ((200, 4000), (1000, 1000), (5000, 400)):
        rng = np.random.default_rng([SEED, num_val])
        found = [
            measure(setting, right, num_val, num_sets, rng)
            for setting, right in zip(SETTINGS, trials, strict=True)
        ]
        write(*table(found, num_val, num_sets))
        errors = ", ".join(f"{k} {v:.1%}" for k, v in relative_errors(found).items())
        sys.stdout.write(f"Mean relative error: {errors}\n\n")


def table(found: Sequence[Result], num_val: int, num_sets: int) -> Table:
    """The trials of one size of the validation set."""
    rows = []
    for one in found:
        variances = (one.truth, one.from_blocks, one.observed, one.binomial)
        rows.append(
            f"{cells('g', one.setting)} | {one.accuracy:.3f} | "
            f"{cells('.3f', (1e4 * value for value in variances))} | "
            f"{cells('.2f', (one.finite_share, one.rejected, one.covered))}"
        )
    head = (
        "learning rate | batch | dropout | accuracy | truth | from blocks | s² (naive) | "
        "s² - p(1-p)/n | finite share | p < 0.05 | coverage"
    )
    means = f"means over {num_sets:,} validation sets a trial"
    return f"MNIST-1D, n = {num_val:,}: variances in pp², {means}", head, rows


if __name__ == "__main__":
    main()
