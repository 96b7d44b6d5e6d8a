"""Lines that log what decides most, which validation examples are right, for the common tools."""

from collections.abc import Collection

KERAS, LIGHTNING, TRANSFORMERS, LOOP = "Keras", "Lightning", "Hugging Face", "a loop"

# Each is the body of a callback; docs/your-logs.md has them whole, and the tests run them.
_BITS = {
    KERAS: """\
class Bits(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        right = self.model.predict(x_val, verbose=0).argmax(axis=1) == y_val
        log_epoch("bits.jsonl", epoch + 1, right, logs["val_loss"])""",
    LIGHTNING: """\
def on_validation_epoch_end(self):  # in your module; validation_step adds to self.right
    loss = float(self.trainer.callback_metrics["val_loss"])
    log_epoch("bits.jsonl", self.current_epoch + 1, self.right, loss)""",
    TRANSFORMERS: """\
def compute_metrics(predicted):  # of the Trainer
    right = predicted.predictions.argmax(axis=-1) == predicted.label_ids
    log_epoch("bits.jsonl", trainer.state.epoch, right)
    return {"accuracy": right.mean()}""",
    LOOP: """\
right = model(x_val).argmax(dim=1) == y_val  # in the same order every time
log_epoch("bits.jsonl", epoch + 1, right.tolist(), val_loss)""",
}


def tool_of(names: Collection[str]) -> str:
    """Guess the tool that wrote a log from the names in it."""
    if "val_loss" in names and "loss" in names:
        return KERAS
    if "eval_loss" in names or "eval_runtime" in names:
        return TRANSFORMERS
    if any(name.endswith(("_epoch", "_step")) for name in names) and "step" in names:
        return LIGHTNING
    return LOOP


def bits_for(tool: str) -> str:
    """The lines for a tool; `log_epoch` is in docs/your-logs.md."""
    return f'{_BITS[tool]}\n# log_epoch: docs/your-logs.md, "Log what decides most"'
