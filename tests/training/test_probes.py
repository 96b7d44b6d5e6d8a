"""Averaged weights and the gradient noise scale, against values known beforehand."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raysweep.spec import Hyperparameters, Probes
from raysweep.tasks import Task, find_task, load_data
from raysweep.training import splits
from raysweep.training.group import ALONE
from raysweep.training.probes import Average, GradientNoise, batch_norms, estimate_statistics
from raysweep.training.splits import TensorSplit, place
from raysweep.training.train import Training, train
from tests.support.groups import in_group
from tests.support.odd_tasks import batch_norm

BATCH = 50
CURVATURE = torch.linspace(0.2, 2.0, 40)
SPREAD = torch.linspace(1.5, 0.5, 40)
# Of the quadratic below: the trace of its gradients' covariance, and |G|² where it starts.
TRUE_S = float((CURVATURE * SPREAD).square().sum())
START = torch.full((40,), 0.35)
TRUE_G = float((CURVATURE * START).square().sum())


class Quadratic(nn.Module):
    """Loss of example x: (w - x) H (w - x) / 2, so its gradient is H (w - x)."""

    def __init__(self, start):
        super().__init__()
        self.w = nn.Parameter(start.clone())

    def forward(self, x):
        return ((self.w - x).square() * CURVATURE).sum(1) / 2


def measured(group, start, num_steps):
    """The columns, measured on so many batches of x ~ N(0, SPREAD²), w staying where it is."""
    torch.manual_seed(1)  # the same global batches on every worker
    model = Quadratic(start)
    parallel = DistributedDataParallel(model) if group.world_size > 1 else model
    noise, parameters = GradientNoise(3, BATCH, group), list(model.parameters())
    for step in range(3 * num_steps):
        if not noise.wants(step, BATCH):
            continue
        model.zero_grad()
        losses = parallel((torch.randn(BATCH, 40) * SPREAD)[group.shard(BATCH)])
        noise.before_backward(losses[noise.part].sum(), parameters)
        (losses.sum() * group.world_size / BATCH).backward()
        noise.after_backward(parameters)
    return noise.columns(group.sum(noise.take()).tolist())


def scale(columns):
    """(S, |G|²), McCandlish et al. 2018."""
    small, big, b, B = (
        columns[f"gns_{name}"] for name in ("small_sq", "big_sq", "b_small", "b_big")
    )
    return (small - big) / (1 / b - 1 / B), (B * big - b * small) / (B - b)


def test_gradient_noise_of_a_quadratic_is_the_analytic_one_from_two_halves():
    columns = measured(ALONE, START, 300)
    assert columns["gns_steps"] == 300
    assert (columns["gns_b_small"], columns["gns_b_big"]) == (25, 50)
    s, g = scale(columns)
    assert s == pytest.approx(TRUE_S, rel=0.05)
    assert g == pytest.approx(TRUE_G, rel=0.15)
    assert s / g == pytest.approx(TRUE_S / TRUE_G, rel=0.15)


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradient_noise_of_a_quadratic_is_the_analytic_one_from_workers(world_size, tmp_path):
    first, *others = in_group(world_size, measured, START, 300, folder=tmp_path)
    assert others == [first] * (world_size - 1)
    s, g = scale(first)
    assert s / g == pytest.approx(TRUE_S / TRUE_G, rel=0.15)
    if world_size == 2:
        assert first == pytest.approx(measured(ALONE, START, 300), rel=1e-4)
    else:
        # 50 = 16 + 17 + 17: the harmonic mean makes up for unlike shards.
        assert first["gns_b_small"] == pytest.approx(3 / (1 / 16 + 2 / 17))


def test_at_the_minimum_the_squared_gradient_is_not_told_from_zero():
    s, g = zip(*(scale(_at_the_minimum(seed)) for seed in range(200)), strict=True)
    assert np.mean(s) == pytest.approx(TRUE_S, rel=0.05)
    assert abs(np.mean(g)) < 2.6 * np.std(g) / np.sqrt(200)
    assert min(g) < 0


def _at_the_minimum(seed):
    torch.manual_seed(seed)
    model, noise = Quadratic(torch.zeros(40)), GradientNoise(1, BATCH)
    parameters = list(model.parameters())
    losses = model(torch.randn(BATCH, 40) * SPREAD)
    noise.before_backward(losses[noise.part].sum(), parameters)
    losses.mean().backward()
    noise.after_backward(parameters)
    return noise.columns(noise.take().tolist())


def test_only_whole_batches_of_two_or_more_are_measured():
    noise = GradientNoise(4, 5)
    assert [step for step in range(10) if noise.wants(step, 5)] == [0, 4, 8]
    assert not noise.wants(0, 3)
    assert not GradientNoise(1, 1).wants(0, 1)
    assert noise.columns([0.0, 0.0, 0.0]) == {}
    assert noise.columns([float("nan"), 1.0, 1.0]) == {}


def test_an_average_weighs_weights_by_their_age_and_forgets_where_it_began():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, half_life=0.5, steps_per_epoch=4)
    values = [3.0, -1.0, 4.0, 1.0, 5.0]
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    weights = 0.5 ** (np.arange(5)[::-1] / 2)  # half an epoch is two steps
    expected = np.average(values, weights=weights)
    assert next(average.model.parameters()).item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 5.0


def test_statistics_are_those_of_the_examples_at_the_weights_evaluated(digits):
    _, data, placed = digits
    model = batch_norm.build(Hyperparameters(), data)
    before = copy.deepcopy(model)
    examples = placed.train_eval
    assert isinstance(examples, TensorSplit)
    estimate_statistics(model, examples, nullcontext())
    (layer,) = batch_norms(model)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    hidden = next(model.children())(examples.x)
    torch.testing.assert_close(layer.running_mean, hidden.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var, hidden.var(0), rtol=1e-4, atol=1e-5)
    assert layer.momentum == batch_norms(before)[0].momentum
    for mine, theirs in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_statistics_of_large_inputs_come_from_batches_of_like_size(digits, monkeypatch):
    _, data, placed = digits
    model = batch_norm.build(Hyperparameters(), data)
    monkeypatch.setattr(splits, "MAX_NUMBERS", 64 * 300)  # 1,000 examples: four times 250
    estimate_statistics(model, placed.train_eval, nullcontext())
    (layer,) = batch_norms(model)
    assert int(layer.num_batches_tracked or 0) == 4
    hidden = next(model.children())(placed.train_eval.x)
    torch.testing.assert_close(layer.running_mean, hidden.mean(0), rtol=1e-4, atol=1e-5)


def build_deep_batch_norm(trial, data):
    layers: list[nn.Module] = []
    for inputs in (64, 64):
        layers += [nn.Linear(inputs, 64), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, data.num_classes))


def test_with_batch_norm_all_four_are_recorded_and_the_re_estimated_is_smoother_than_the_raw():
    digits = find_task("digits")
    data = load_data(digits, None)
    jitter: dict[str, list[float]] = {}
    for seed in range(3):
        rows = []
        train(
            Training(
                Hyperparameters(epochs=30, batch_size=16, learning_rate=0.1, momentum=0.9),
                seed,
                Task(digits.task.load, build_deep_batch_norm),
                data,
                place(data, torch.device("cpu")),
                probes=Probes(ema_half_life=1.0),
            ),
            rows.append,
        )
        for kind in ("raw", "ema_live", "ema_averaged", "ema"):
            of_kind = [row for row in rows if row["weights_kind"] == kind]
            assert [row["epoch"] for row in of_kind] == list(range(1, 31))
            accuracy = np.array([row["val_correct"] / row["val_n"] for row in of_kind[5:]])
            second = accuracy[:-2] / 2 - accuracy[1:-1] + accuracy[2:] / 2
            jitter.setdefault(kind, []).append(float(2 / 3 * np.mean(second**2)))
    sd = {kind: 100 * np.sqrt(np.mean(values)) for kind, values in jitter.items()}
    print({kind: f"{value:.3f} pp" for kind, value in sd.items()})
    assert sd["ema"] < 0.7 * sd["raw"]
