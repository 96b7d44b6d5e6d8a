"""A callback for Keras 3: each epoch's predictions of a validation set become a report."""

from typing import Any

import keras
import numpy as np

from raysweep.loops.report import Report
from raysweep.loops.terminal import tell

_TINY = 1e-38  # a probability of 0 in float32 has no logarithm


class ReportCallback(keras.callbacks.Callback):
    """Reports each epoch: `model.fit(..., callbacks=[ReportCallback(report, val_x, val_y)])`.

    Probabilities, as a last layer of softmax or sigmoid gives them, count as their logarithms.
    """

    def __init__(
        self, report: Report, x: Any, y: Any, *, train: tuple[Any, Any] | None = None
    ) -> None:
        """Args: x, y: the validation set, as `model.predict` takes it, and its classes, or one-hot
        rows of them; train: x and y of training examples, to be measured in eval mode."""
        super().__init__()
        self._report, self._x, self._classes, self._train = report, x, _classes(y), train

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the epoch."""
        said: dict[str, Any] = {"outputs": self._logits(self._x), "targets": self._classes}
        rate = keras.ops.convert_to_numpy(self._fitted().optimizer.learning_rate)
        said |= {"running_loss": (logs or {}).get("loss"), "lr": np.asarray(rate).item()}
        if self._train:
            x, classes = self._train[0], _classes(self._train[1])
            logits = self._logits(x)
            losses = -_log_softmax(logits)[np.arange(len(classes)), classes]
            said |= {
                "train_accuracy": float((logits.argmax(1) == classes).mean()),
                "train_loss": float(losses.mean()),
                "train_n": len(classes),
            }
        self._report(**said)
        tell(self._report)

    def _fitted(self) -> Any:
        return self.model  # Keras sets it before it trains

    def _logits(self, x: Any) -> np.ndarray:
        model = self._fitted()
        outputs = np.asarray(model.predict(x, verbose=0), dtype=np.float64)
        one = outputs.ndim == 1 or outputs.shape[1] == 1
        if one:
            outputs = outputs.reshape(len(outputs), 1)
        if getattr(model.loss, "from_logits", False):
            return np.concatenate([0 * outputs, outputs], 1) if one else outputs
        shares = np.concatenate([1 - outputs, outputs], 1) if one else outputs
        is_shares = (shares >= 0).all() and np.allclose(shares.sum(1), 1, atol=1e-3)
        return np.log(np.maximum(shares, _TINY)) if is_shares else outputs


def _classes(y: Any) -> np.ndarray:
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        return values.argmax(1)
    return values.reshape(len(values)).astype(np.int64)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
