"""What each peer says of a curve; run by the Python of the peer's own environment.

PYTHON peers.py PEER < curves.json > told.json

In: a list of curves, each with train_loss, val_loss, train_accuracy and val_accuracy by epoch.
Out: what the peer can say -> whether it says so, curve by curve.
"""

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Curve = dict[str, list[float]]
Said = dict[str, bool]
STEPS = 100  # an epoch, for peers that count steps
_ROWS = 20  # an epoch, for the peer that wants 500 rows


def _epochs(curve: Curve) -> Iterator[tuple[int, dict[str, float]]]:
    for number, values in enumerate(zip(*curve.values(), strict=True), 1):
        yield number, dict(zip(curve, values, strict=True))


def _trainer_state(curve: Curve) -> dict[str, Any]:
    """The log that Hugging Face's trainer writes, 100 steps an epoch."""
    history = []
    for epoch, row in _epochs(curve):
        at = {"epoch": float(epoch), "step": STEPS * epoch}
        history.append(at | {"loss": row["train_loss"], "learning_rate": 1e-3})
        evaluated = {"eval_loss": row["val_loss"], "eval_accuracy": row["val_accuracy"]}
        history.append(at | evaluated)
    return {"log_history": history, "global_step": STEPS * len(curve["val_loss"])}


@contextlib.contextmanager
def _file(name: str, content: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(content, encoding="utf-8")
        yield path


def _losslint(curve: Curve) -> Said:
    from losslint.checks import run_all_checks  # pyright: ignore[reportMissingImports]
    from losslint.parsing import load_run  # pyright: ignore[reportMissingImports]

    with _file("log.jsonl", "\n".join(_json_lines(curve))) as path:
        found = {finding.check for finding in run_all_checks(load_run(path))}
    return {"overfit_onset": "overfit_onset" in found}


def _json_lines(curve: Curve) -> Iterator[str]:
    for epoch, row in _epochs(curve):
        yield json.dumps({"step": STEPS * epoch} | row)


def _runmedic(curve: Curve) -> Said:
    from runmedic import loaders, roles  # pyright: ignore[reportMissingImports]
    from runmedic.checks import run_checks  # pyright: ignore[reportMissingImports]

    with _file("log.jsonl", "\n".join(_json_lines(curve))) as path:
        (run,) = loaders.load(str(path))
    found = [one for one in run_checks(run, roles.detect(run)) if one.check == "overfitting"]
    severe = any(one.severity in ("warning", "critical") for one in found)
    return {"mild overfitting or more": bool(found), "overfitting": severe}


def _trainproof(curve: Curve) -> Said:
    from trainproof.epoch import check_records  # pyright: ignore[reportMissingImports]

    records = [
        {"step": STEPS * epoch, "loss": row["train_loss"], "eval_loss": row["val_loss"]}
        for epoch, row in _epochs(curve)
    ]
    found = {finding["id"] for finding in check_records(records)["findings"]}
    return {"TP-OVERFIT": "TP-OVERFIT" in found}


def _finetune_doctor(curve: Curve) -> Said:
    from finetune_doctor import Severity, diagnose  # pyright: ignore[reportMissingImports]
    from finetune_doctor.history import (  # pyright: ignore[reportMissingImports]
        from_trainer_state,
    )

    history = from_trainer_state(_trainer_state(curve))
    said = {}
    for words, metric in (("by loss", "eval_loss"), ("by accuracy", "eval_accuracy")):
        found = [f for f in diagnose(history, metric).findings if f.check == "overfitting"]
        said[words] = any(one.severity >= Severity.WARNING for one in found)
    return said


def _gradsnitch(curve: Curve) -> Said:
    import gradsnitch  # pyright: ignore[reportMissingImports]
    import pandas  # pyright: ignore[reportMissingImports]

    rows = [{"step": STEPS * epoch} | row for epoch, row in _epochs(curve)]
    return {"GS004": any(one.code == "GS004" for one in gradsnitch.lint(pandas.DataFrame(rows)))}


def _trainspotter(curve: Curve) -> Said:
    import trainspotter  # pyright: ignore[reportMissingImports]

    with _file("trainer_state.json", json.dumps(_trainer_state(curve))) as path:
        found = trainspotter.run_all(trainspotter.load_run(str(path)))
    severe = any(f.detector == "overfitting" and f.severity != "info" for f in found)
    return {"overfitting onset": severe}


def _training_doctor(curve: Curve) -> Said:
    from training_doctor.detectors.overfitting import (  # pyright: ignore[reportMissingImports]
        OverfittingDetector,
    )
    from training_doctor.metrics.store import MetricStore  # pyright: ignore[reportMissingImports]

    store = MetricStore()
    for epoch, row in _epochs(curve):
        store.log(STEPS * epoch, train_loss=row["train_loss"], eval_loss=row["val_loss"])
    found = OverfittingDetector().check(store)
    sure = found is not None and found.confidence >= 0.6
    return {"any confidence": found is not None, "confidence of 0.6 or more": sure}


def _trainlens(curve: Curve) -> Said:
    from trainlens import analyze  # pyright: ignore[reportMissingImports]

    history = {
        "loss": curve["train_loss"],
        "val_loss": curve["val_loss"],
        "accuracy": curve["train_accuracy"],
        "val_accuracy": curve["val_accuracy"],
    }
    found = {signal.title for signal in analyze({"history": history}).signals}
    return {"possible overfitting": "Possible overfitting" in found}


def _epochix(curve: Curve) -> Said:
    from epochix.story_engine.warnings import (  # pyright: ignore[reportMissingImports]
        WarningDetector,
        standing_warnings,
    )

    detector, told = WarningDetector(), []
    for epoch, row in _epochs(curve):
        losses = {"train_loss": row["train_loss"], "val_loss": row["val_loss"]}
        told += detector.update(epoch, primary_value=row["val_accuracy"], **losses)
    return {"warning that stands": any(w.kind == "overfit" for w in standing_warnings(told))}


def _sk_autod(curve: Curve) -> Said:
    from sk_autod import diagnose  # pyright: ignore[reportMissingImports]

    found = diagnose(curve["train_loss"], curve["val_loss"]).findings
    return {"classic overfitting": any(f.detector_name == "Classic overfitting" for f in found)}


_WORSE = {"overfitting", "val_regression", "val_drift", "score_regression", "progress_lost"}


def _pulseml(curve: Curve) -> Said:
    from pulse.pulse_detect import DetectionEngine  # pyright: ignore[reportMissingImports]

    said = {}
    for words, sensitivity in (("default dial", 0.3), ("tight dial", 0.75)):
        engine, found = DetectionEngine(sensitivity), set()
        for end in range(1, len(curve["val_loss"]) + 1):
            told = engine.update({name: some[:end] for name, some in curve.items()}, step=end)
            found |= {one.check for one in told["raised"]}
        said[f"anything gets worse, {words}"] = bool(found & _WORSE)
    return said


def _runwise(curve: Curve) -> Said:
    from runwise.anomalies import detect_anomalies  # pyright: ignore[reportMissingImports]

    history: list[dict[str, float]] = []
    before = curve["train_loss"][0]
    for epoch, row in _epochs(curve):
        for part in range(1, _ROWS + 1):
            loss = before + (row["train_loss"] - before) * part / _ROWS
            history.append({"_step": (epoch - 1) * _ROWS + part, "loss": loss})
        history[-1]["val_loss"] = row["val_loss"]
        before = row["train_loss"]
    return {"overfit": any(one.type == "overfit" for one in detect_anomalies(history))}


def _hyperassist(curve: Curve) -> Said:
    from hyperassist.log_assist.analyzer import (  # pyright: ignore[reportMissingImports]
        process_from_file,
    )

    lines = [
        f"epoch {epoch} {stage} loss: {row[f'{stage}_loss']:.5f}"
        for epoch, row in _epochs(curve)
        for stage in ("train", "val")
    ]
    with _file("log.txt", "\n".join(lines)) as path:
        return {"overfitting": bool(process_from_file(str(path))["overfit"])}


JUDGES: dict[str, Callable[[Curve], Said]] = {
    "losslint": _losslint,
    "runmedic": _runmedic,
    "trainproof": _trainproof,
    "finetune-doctor": _finetune_doctor,
    "gradsnitch": _gradsnitch,
    "trainspotter": _trainspotter,
    "training-doctor": _training_doctor,
    "trainlens": _trainlens,
    "epochix": _epochix,
    "sk-autod": _sk_autod,
    "pulseml": _pulseml,
    "runwise": _runwise,
    "hyperassist": _hyperassist,
}


def main() -> None:
    """Judge the curves of standard input."""
    judge, curves = JUDGES[sys.argv[1]], json.load(sys.stdin)
    with contextlib.redirect_stdout(io.StringIO()):  # some peers print
        told = [judge(curve) for curve in curves]
    json.dump({words: [one[words] for one in told] for words in told[0]}, sys.stdout)


if __name__ == "__main__":
    main()
