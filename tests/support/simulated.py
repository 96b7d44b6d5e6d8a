"""Curves with known truth, and a real store that holds them.

Every example of the population has a margin m ~ N(0, 1). It is right at epoch t when
m + level_t + churn * u_t > 0, u being a stationary AR(1) of its own; so the population accuracy at
epoch t is Phi(level_t / sqrt(1 + churn^2)), whatever the validation set.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from raysweep.spec import SweepSpec
from raysweep.store.files import Store, StoreWriter
from raysweep.store.record import SweepRecord
from raysweep.store.schema import EPOCHS, NUM_BLOCKS, TRIALS


@dataclass
class Curve:
    """What a trial's curve is made of; levels are in units of the margin's SD."""

    final: float = 1.6  # level at the end of learning
    speed: float = 0.25  # of learning, per epoch
    process: float = 0.03  # SD of the movement of the whole population's level
    wander: float = 0.0  # its lag-1 autocorrelation
    churn: float = 0.15  # SD of each example's own movement
    memory: float = 0.5  # its lag-1 autocorrelation
    fall: float = 0.0  # loss of level from epoch `peak` to the end
    peak: int = 20
    gap: float = 0.6  # training level above validation level


def ar1(rng, shape, correlation):
    """Stationary AR(1) with unit variance along the first axis."""
    noise = rng.standard_normal(shape)
    for t in range(1, shape[0]):
        noise[t] = correlation * noise[t - 1] + np.sqrt(1 - correlation**2) * noise[t]
    return noise


def levels(curve, num_epochs, rng):
    time = np.arange(1, num_epochs + 1)
    trend = curve.final - 1.8 * np.exp(-curve.speed * time)
    past = np.clip((time - curve.peak) / max(num_epochs - curve.peak, 1), 0, 1)
    trend = trend - curve.fall * past
    return trend + curve.process * ar1(rng, (num_epochs,), curve.wander)


def correctness(curve, level, margins, rng):
    """bool, shape (num_epochs, num_examples)."""
    own = ar1(rng, (len(level), len(margins)), curve.memory)
    return margins + level[:, None] + curve.churn * own > 0


def population_accuracy(curve, level):
    return stats.norm.cdf(level / np.sqrt(1 + curve.churn**2))


def epoch_rows(
    trial_id, right, train_right, *, val_loss, train_loss, lr, batch_size, attempt=1, start_epoch=1
):
    """Rows of the epochs table from correctness (num_epochs, num_examples)."""
    block = np.arange(right.shape[1]) % NUM_BLOCKS
    block_n = np.bincount(block, minlength=NUM_BLOCKS).astype(int).tolist()
    rows = []
    for t in range(len(right)):
        flips = None if t == 0 else (right[t - 1] & ~right[t], ~right[t - 1] & right[t])
        rows.append(
            {
                "trial_id": trial_id,
                "attempt": attempt,
                "start_epoch": start_epoch,
                "epoch": t + 1,
                "weights_kind": "raw",
                "status": "ok",
                "global_step": (t + 1) * 10,
                "lr": float(lr[t]) if np.ndim(lr) else float(lr),
                "batch_size": batch_size,
                "wall_s": 0.05,
                "train_n": train_right.shape[1],
                "train_loss": float(train_loss[t]) * 1.1,
                "train_accuracy": float(train_right[t].mean()) * 0.98,
                "train_eval_n": train_right.shape[1],
                "train_eval_correct": int(train_right[t].sum()),
                "train_eval_loss_sum": float(train_loss[t]) * train_right.shape[1],
                "val_n": right.shape[1],
                "val_correct": int(right[t].sum()),
                "val_loss_sum": float(val_loss[t]) * right.shape[1],
                "val_block_n": block_n,
                "val_block_correct": np.bincount(block, weights=right[t], minlength=NUM_BLOCKS)
                .astype(int)
                .tolist(),
                "flip_to_wrong": None if flips is None else int(flips[0].sum()),
                "flip_to_right": None if flips is None else int(flips[1].sum()),
            }
        )
    return rows


@dataclass
class Sweep:
    """Writes a sweep's trials into a store as a finished invocation would."""

    spec: SweepSpec
    num_val: int = 500
    num_train: int = 1200
    rng_seed: int = 0

    def plan(self):
        """[(trial_id, config_id, seed, trial, {axis: value})], in the order of the grid."""
        names = list(self.spec.axes)
        planned = []
        for values in itertools.product(*self.spec.axes.values()):
            point = dict(zip(names, values, strict=True))
            trial = self.spec.base.model_copy(update=point)
            config_id = trial.digest()
            planned += [
                (trial.digest(seed=seed), config_id, seed, trial, point) for seed in self.spec.seeds
            ]
        return planned

    def record(self):
        planned = self.plan()
        spec = self.spec.model_dump(mode="json")
        axes = {name: spec["axes"][name] for name in self.spec.axes}
        configurations = {}
        for _, config_id, _, _, point in planned:
            configurations[config_id] = {
                name: axes[name][list(self.spec.axes[name]).index(value)]
                for name, value in point.items()
            }
        return {
            "spec": spec,
            "trials": [[trial_id, config_id, seed] for trial_id, config_id, seed, *_ in planned],
            "configurations": configurations,
            "versions": {"raysweep": "0.1.0", "torch": "2.13.0", "ray": "2.60.0"},
            "git_commit": "0123456789abcdef",
            "hardware": {"nodes": [{"host": "node-1", "cpus": 2, "gpus": 0, "memory_bytes": 8e9}]},
            "command": ["raysweep", "run", self.spec.name],
            "started_at": "2026-01-02T03:04:05+00:00",
        }

    def write(self, root, curve_of, *, diverged=(), failed=(), missing=(), stopped=None):
        """Args: curve_of: trial -> Curve; diverged, failed, missing: numbers of trials in plan;
        stopped: the epoch at which a scheduler stopped them, by number."""
        store = Store(root)
        writer = StoreWriter(store)
        writer.add_sweep(SweepRecord.from_json(self.record()))
        margins = np.random.default_rng(99).standard_normal(self.num_val)
        train_margins = np.random.default_rng(98).standard_normal(self.num_train)
        for number, (trial_id, config_id, seed, trial, _) in enumerate(self.plan()):
            if number in missing:
                continue
            rng = np.random.default_rng([self.rng_seed, number])
            curve = curve_of(trial)
            level = levels(curve, trial.epochs, rng)
            right = correctness(curve, level, margins, rng)
            train_level = levels(
                Curve(curve.final + curve.gap, curve.speed, curve.process), trial.epochs, rng
            )
            train_right = correctness(curve, train_level, train_margins, rng)
            val_loss = 0.9 * np.exp(-0.8 * level) + 0.02 * rng.standard_normal(trial.epochs) * 0.2
            train_loss = 0.9 * np.exp(-0.8 * train_level)
            result = {"status": "completed", "epochs_run": trial.epochs, "stopped_early": False}
            if number in failed:
                result = {
                    "status": "failed",
                    "error": "RuntimeError: out of memory\nline two",
                    "epochs_run": 4,
                }
                right = right[:4]
            if (cut := (stopped or {}).get(number)) is not None:
                result |= {"status": "stopped", "epochs_run": cut}
                right = right[:cut]
            if number in diverged:
                result |= {"status": "diverged"}
                val_loss[5:] = np.nan
            if trial.early_stopping is not None:
                stop, best = _early_stop(val_loss, trial.early_stopping.patience)
                right = right[:stop]
                result |= {
                    "epochs_run": stop,
                    "stopped_early": stop < trial.epochs,
                    "restored_epoch": best,
                    "restored_val_correct": int(right[best - 1].sum()),
                }
            rows = epoch_rows(
                trial_id,
                right,
                train_right,
                val_loss=val_loss,
                train_loss=train_loss,
                lr=trial.effective_learning_rate(),
                batch_size=trial.batch_size,
            )
            finished = {
                "trial_id": trial_id,
                "config_id": config_id,
                "task": self.spec.task,
                "seed": seed,
                "attempt": 1,
                **trial.columns(),
                "world_size": 1,
                "n_train": self.num_train,
                "n_val": self.num_val,
                "num_classes": 10,
                "num_parameters": 12_345,
                "val_digest": "cafe",
                "seconds": 3.0,
                "node": "node-1",
                **result,
            }
            writer.append("epochs", pa.RecordBatch.from_pylist(rows, EPOCHS))
            writer.append("trials", pa.RecordBatch.from_pylist([finished], TRIALS))
            if number % 40 == 39:
                writer.flush()
        writer.flush()
        return store


def _early_stop(val_loss, patience):
    """(last epoch, best epoch), from 1."""
    best = 0
    for t, loss in enumerate(val_loss):
        if loss < val_loss[best]:
            best = t
        elif t - best >= patience:
            return t + 1, best + 1
    return len(val_loss), best + 1


def spec(name, *, axes, epochs=60, seeds=3, **base):
    return SweepSpec.from_mapping(
        {
            "name": name,
            "task": "digits",
            "base": {"epochs": epochs, **base},
            "axes": axes,
            "seeds": seeds,
        }
    )


def digits_like():
    """36 configurations x 3 seeds, as the default recipe."""
    return Sweep(
        spec(
            "digits",
            axes={
                "batch_size": [32, 128, 512],
                "learning_rate": [0.01, 0.1, 0.5],
                "dropout": [0.0, 0.5],
                "weight_decay": [0.0, 1e-4],
            },
        )
    )


def practitioner(trial):
    """Noisier with learning rate over batch size; dropout closes the gap."""
    heat = np.clip(np.log10(trial.effective_learning_rate() / trial.batch_size * 1280 / 1.0), -2, 2)
    return Curve(
        final=1.75 - 0.1 * (heat > 1) - 0.4 * (heat < -1),
        speed=0.05 + 0.1 * (heat + 2),
        process=0.02 * 2.2**heat,
        churn=0.12 * 1.8**heat,
        gap=0.9 - (0.5 if trial.dropout else 0.0),
        fall=0.35 if heat > 0.5 and not trial.dropout else 0.0,
    )


def batch_size_like():
    return Sweep(
        spec(
            "batch-size",
            axes={"batch_size": [32, 128, 512], "lr_scaling": ["none", "linear"]},
            seeds=5,
        )
    )


def dropout_like():
    return Sweep(spec("dropout", axes={"dropout": [0.0, 0.5]}, weight_decay=1e-4, seeds=5))


def early_stopping_like():
    return Sweep(
        spec(
            "early-stopping",
            axes={"early_stopping": [None, {"metric": "val_loss", "patience": 10}]},
            optimizer="adam",
            learning_rate=1e-3,
            seeds=5,
        )
    )
