"""Real stores that hold simulated curves, whose truth is known."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from analysis.calibration.simulate import Scenario, simulate
from raysweep.spec import SweepSpec
from raysweep.store.files import Store, StoreWriter
from raysweep.store.record import SweepRecord
from raysweep.store.schema import EPOCHS, TRIALS

NUM_CLASSES = 10


@dataclass(frozen=True)
class Curve(Scenario):
    """What a trial's curve is made of: a network that learns within some twenty epochs."""

    accuracy: float = 0.943
    start: float = 0.42
    learning_epochs: float = 4.0
    churn: float = 0.15
    gap: float = 0.042


@dataclass
class Sweep:
    """Writes a sweep's trials into a store as a finished invocation would."""

    spec: SweepSpec
    num_val: int = 500
    num_train: int = 1200
    rng_seed: int = 0
    probes: bool = False  # averaged weights, gradient noise, temperature, repeated evaluation

    @property
    def told(self):
        """Columns of each trial that a kind of sweep says in its own way."""
        return {}

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
        spec["probes"]["ema_half_life"] = 1.0 if self.probes else None
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
        for number, (trial_id, config_id, seed, trial, _) in enumerate(self.plan()):
            if number in missing:
                continue
            rng = np.random.default_rng([self.rng_seed, number])
            made = self._simulate(curve_of(trial), trial, rng)
            if number in diverged:
                made.curves.val_loss[:, 5:] = np.nan
            result = {"status": "completed", "epochs_run": trial.epochs, "stopped_early": False}
            if number in failed:
                error = "RuntimeError: out of memory\nline two"
                result = {"status": "failed", "error": error, "epochs_run": 4}
            if (cut := (stopped or {}).get(number)) is not None:
                result |= {"status": "stopped", "epochs_run": cut}
            if number in diverged:
                result |= {"status": "diverged"}
            if trial.early_stopping is not None:
                stop, best = _early_stop(made.curves.val_loss[0], trial.early_stopping.patience)
                result |= {
                    "epochs_run": stop,
                    "stopped_early": stop < trial.epochs,
                    "restored_epoch": best,
                    "restored_val_correct": int(made.correct[0, best - 1].sum()),
                }
            kinds = {"raw": made}
            if self.probes:
                kinds["ema"] = self._simulate(replace(curve_of(trial), jitter=0.001), trial, rng)
            for kind, of_kind in kinds.items():
                columns = self._rows(trial, of_kind, rng, kind)
                columns |= {"trial_id": trial_id, "weights_kind": kind}
                writer.append("epochs", _batch(columns, trial.epochs)[: result["epochs_run"]])
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
                "num_classes": NUM_CLASSES,
                "num_parameters": 12_345,
                "val_digest": "cafe",
                "seconds": 3.0,
                "node": "node-1",
                **self.told,
                **result,
            }
            writer.append("trials", pa.RecordBatch.from_pylist([finished], TRIALS))
            if number % 40 == 39:
                writer.flush()
        writer.flush()
        return store

    def _simulate(self, curve, trial, rng):
        """The curves of a trial. All trials share one validation set."""
        sizes = {"num_val": self.num_val, "num_train_eval": self.num_train}
        curve = replace(curve, num_epochs=trial.epochs, **sizes)
        margins = np.random.default_rng(99).standard_normal(self.num_val)
        return simulate(curve, 1, rng, bits=True, margins=margins)

    def _rows(self, trial, made, rng, kind):
        """Columns of the epochs table, (num_epochs, ...) each, or one value for all."""
        curves, right = made.curves, made.correct[0]
        num_epochs, num_val = right.shape
        classes = np.arange(num_val) % NUM_CLASSES
        block_n = np.rint(curves.block_weight[0] * num_val).astype(int)
        train_right = np.rint(curves.train_accuracy[0] * self.num_train).astype(int)
        train_loss = 2 * (1 - curves.train_accuracy[0]) + 0.01
        columns = {
            "attempt": 1,
            "start_epoch": 1,
            "epoch": np.arange(1, num_epochs + 1),
            "status": "ok",
            "global_step": 10 * np.arange(1, num_epochs + 1),
            "lr": trial.effective_learning_rate(),
            "batch_size": trial.batch_size,
            "wall_s": 0.05,
            "val_n": num_val,
            "val_correct": right.sum(axis=1),
            "val_loss_sum": curves.val_loss[0] * num_val,
            "val_block_n": np.tile(block_n, (num_epochs, 1)),
            "val_block_correct": np.rint(curves.block_accuracy[0] * block_n).astype(int),
            "val_block_loss_sum": curves.block_loss[0] * block_n,
            "flip_to_wrong": [None, *curves.to_wrong[0, 1:].astype(int)],
            "flip_to_right": [None, *curves.to_right[0, 1:].astype(int)],
            "val_class_n": np.tile(np.bincount(classes), (num_epochs, 1)),
            "val_class_correct": right @ np.eye(NUM_CLASSES, dtype=int)[classes],
        }
        if kind != "raw":
            return columns
        columns |= {
            "train_n": self.num_train,
            "train_loss": train_loss * 1.1,
            "train_accuracy": curves.train_accuracy[0] * 0.98,
            "train_eval_n": self.num_train,
            "train_eval_correct": train_right,
            "train_eval_loss_sum": train_loss * self.num_train,
        }
        if self.probes:
            columns |= {
                "val_loss_sumsq": 2 * curves.val_loss[0] * num_val,
                "val_correct_bits": [np.packbits(seen).tobytes() for seen in right],
                "repeat_correct": right.sum(axis=1),
                "temperature": 1.1,
                "val_nll_at_temperature": curves.refined_loss[0],
                "val_block_nll_sum": curves.block_refined[0] * block_n,
                "brier": 0.1,
                "ece": 0.02,
                "gns_small_sq": 2 * rng.chisquare(20, num_epochs) / 20,
                "gns_big_sq": 1.5 * rng.chisquare(20, num_epochs) / 20,
                "gns_b_small": trial.batch_size / 2,
                "gns_b_big": trial.batch_size,
                "gns_steps": 3,
                "grad_norm": 1.0,
                "param_norm": 12.0,
                "update_norm": 0.1,
            }
        return columns


def _batch(columns, num_rows):
    """A record batch of the epochs table; what is not given is null."""

    def array(field):
        values = columns.get(field.name)
        if values is None or isinstance(values, int | float | str):
            values = [values] * num_rows
        return pa.array(list(values), field.type)

    return pa.RecordBatch.from_arrays([array(field) for field in EPOCHS], schema=EPOCHS)


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
        accuracy=0.955 - 0.01 * (heat > 1) - 0.05 * (heat < -1),
        learning_epochs=1 / (0.05 + 0.1 * (heat + 2)),
        jitter=0.0017 * 2.2**heat,
        churn=0.12 * 1.8**heat,
        gap=0.04 - (0.02 if trial.dropout else 0.0),
        fall=0.05 if heat > 0.5 and not trial.dropout else 0.0,
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
