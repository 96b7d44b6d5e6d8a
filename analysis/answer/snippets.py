"""Lines that log what decides most, which validation examples are right, for the common tools."""

from collections.abc import Collection

KERAS, LIGHTNING, TRANSFORMERS, LOOP = "Keras", "Lightning", "Hugging Face", "a loop"

# As docs/your-logs.md has them, whose snippets the tests run.
BITS = {
    KERAS: """\
class Bits(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        right = self.model.predict(x_val, verbose=0).argmax(axis=1) == y_val
        log_epoch("bits.jsonl", epoch + 1, right, val_loss=logs["val_loss"])""",
    LIGHTNING: """\
    def on_validation_epoch_end(self, trainer, module):
        if not trainer.sanity_checking:
            log_epoch("bits.jsonl", trainer.current_epoch + 1, module.right)""",
    TRANSFORMERS: """\
def compute_metrics(predicted):
    right = predicted.predictions.argmax(axis=-1) == predicted.label_ids
    log_epoch("bits.jsonl", round(trainer.state.epoch), right)
    return {"accuracy": right.mean()}""",
    LOOP: """\
    row = {"trial_id": "mine", "epoch": epoch, "val_accuracy": sum(bits) / len(bits)}
    row |= {"val_correct_bits": bits, **metrics}  # val_loss; train_loss in eval mode""",
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
    """Write the lines for a tool; `log_epoch` is in docs/your-logs.md."""
    lines = "\n".join(line.removeprefix("    ") for line in BITS[tool].splitlines())
    shown = lines if BITS[tool].startswith("    ") else BITS[tool]
    return f"{shown}\n# log_epoch: docs/your-logs.md, 'Log what decides most'"
