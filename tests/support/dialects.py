"""One curve as many tools and people write it: a file's name and its content."""

import json
import struct
from typing import NamedTuple

import polars as pl


class Curve(NamedTuple):
    """What every dialect says: a value an epoch, accuracies as fractions."""

    val_accuracy: list[float]
    val_loss: list[float]
    train_loss: list[float]

    def rows(self):
        """(epoch from 1, validation accuracy, validation loss, training loss)."""
        return [(k, *row) for k, row in enumerate(zip(*self, strict=True), 1)]


DIALECTS = {}


def dialect(name):
    """Register what writes a file called so."""

    def register(write):
        DIALECTS[write.__name__] = (name, write)
        return write

    return register


def lines(head, rows):
    return "\n".join([head, *rows]) + "\n"


@dialect("training.log")
def keras_csv(curve):
    rows = [f"{k - 1},{t},{a},{v}" for k, a, v, t in curve.rows()]
    return lines("epoch,loss,val_accuracy,val_loss", rows)


@dialect("history.json")
def keras_history(curve):
    names = ("val_accuracy", "val_loss", "loss")
    return json.dumps(dict(zip(names, curve, strict=True)))


@dialect("pasted.txt")
def printed_dict(curve):
    return repr(dict(zip(("val_acc", "val_loss", "loss"), curve, strict=True)))


@dialect("out.txt")
def keras_printed(curve):
    text = ""
    for k, a, v, t in curve.rows():
        text += f"Epoch {k}/99\n\r1/9 [=>....] - ETA: 1s - loss: {t + 1}"
        text += f"\r9/9 [=====] - 1s 9ms/step - loss: {t} - val_loss: {v} - val_acc: {a}\n"
    return text


@dialect("table.csv")
def semicolons(curve):
    rows = [f"{k};{a};{v};{t}".replace(".", ",") for k, a, v, t in curve.rows()]
    return lines("Epoch;Val Acc;Val Loss;Train Loss", rows)


@dialect("table.tsv")
def tabs(curve):
    return lines(
        "epoch\tvalAcc\tvalLoss\ttrainLoss", ["\t".join(map(str, r)) for r in curve.rows()]
    )


@dialect("table.csv")
def utf16(curve):
    return keras_csv(curve).encode("utf-16")


@dialect("table.csv")
def byte_order_mark(curve):
    return b"\xef\xbb\xbf" + keras_csv(curve).encode()


@dialect("table.csv")
def percent_signs(curve):
    rows = [f"{k},{100 * a:.6f}%,{v},{t}" for k, a, v, t in curve.rows()]
    return lines("epoch,valid acc,valid loss,train loss", rows)


@dialect("table.csv")
def percent(curve):
    rows = [f"{k},{100 * a:.6f},{v},{t}" for k, a, v, t in curve.rows()]
    return lines("epoch,eval/top1,eval/loss,train/loss", rows)


@dialect("table.csv")
def share_of_errors(curve):
    rows = [f"{k},{1 - a:.8f},{v},{t}" for k, a, v, t in curve.rows()]
    return lines("epoch,val_error,val_loss,train_loss", rows)


@dialect("frame.csv")
def pandas_index(curve):
    rows = [f"{k - 1},{a},{v},{t}" for k, a, v, t in curve.rows()]
    return lines(",val_acc,val_loss,loss", rows)


@dialect("frame.json")
def pandas_json(curve):
    columns = zip(("val_acc", "val_loss", "loss"), curve, strict=True)
    return json.dumps({name: dict(enumerate(values)) for name, values in columns})


@dialect("frame.parquet")
def parquet(curve):
    import io

    to = io.BytesIO()
    columns = dict(zip(("val_acc", "val_loss", "train_loss"), curve, strict=True))
    pl.DataFrame({"epoch": range(1, len(curve.val_loss) + 1), **columns}).write_parquet(to)
    return to.getvalue()


@dialect("README.md")
def markdown(curve):
    rows = [f"| {k} | {a} | {v} | {t} |" for k, a, v, t in curve.rows()]
    head = (
        "# Results\n\nAll epochs:\n\n| Epoch | Val Acc | Val Loss | Train Loss |\n|---|:-:|---|---|"
    )
    return lines(head, rows)


@dialect("rows.json")
def rows_of_objects(curve):
    return json.dumps(
        [
            {"epoch": k, "val": {"acc": a, "loss": v}, "train": {"loss": t}}
            for k, a, v, t in curve.rows()
        ]
    )


@dialect("log.jsonl")
def mmengine(curve):
    rows = []
    for k, a, v, t in curve.rows():
        rows.append({"mode": "train", "epoch": k, "iter": 50, "lr": 0.1, "loss": t})
        rows.append({"mode": "val", "epoch": k, "iter": 9, "accuracy_top-1": a, "loss": v})
    return "\n".join(map(json.dumps, rows))


@dialect("trainer_state.json")
def hugging_face(curve):
    rows = []
    for k, a, v, t in curve.rows():
        rows.append({"epoch": k - 0.1, "learning_rate": 1e-5, "loss": t, "step": 100 * k - 10})
        rows.append({"epoch": float(k), "eval_accuracy": a, "eval_loss": v, "step": 100 * k})
    return json.dumps({"global_step": 1, "log_history": rows})


@dialect("metrics.csv")
def lightning(curve):
    rows = []
    for k, a, v, t in curve.rows():
        rows.append(f"{k - 1},{10 * k - 1},,{a},{v}")
        rows.append(f"{k - 1},{10 * k - 1},{t},,")
    return lines("epoch,step,train_loss_epoch,val_acc,val_loss", rows)


@dialect("history.csv")
def wandb_history(curve):
    rows = []
    for k, a, v, t in curve.rows():
        rows.append(f"{3 * k},{k - 0.5},,,{t},9.5")
        rows.append(f"{3 * k + 1},{k},{a},{v},,9.9")
    return lines("_step,epoch,eval/accuracy,eval/loss,train/loss,_runtime", rows)


@dialect("export.csv")
def wandb_panel(curve):
    rows = [f'"{k - 1}","{a}","{a}","{a}"' for k, a, _, _ in curve.rows()]
    return lines('"Step","r - val_acc","r - val_acc__MIN","r - val_acc__MAX"', rows)


@dialect("run-x-tag-val_acc.json")
def tensorboard_json(curve):
    return json.dumps([[1.7e9 + k, 10 * k, a] for k, a, _, _ in curve.rows()])


@dialect("run-x-tag-val_acc.csv")
def tensorboard_csv(curve):
    rows = [f"{1.7e9 + k},{10 * k},{a}" for k, a, _, _ in curve.rows()]
    return lines("Wall time,Step,Value", rows)


@dialect("events.out.tfevents.1.host")
def event_file(curve):
    body = record(field(3, b"brain.Event:2"))
    for k, a, v, t in curve.rows():
        for tag, value in (("loss/train", t), ("loss/val", v), ("acc/val", a)):
            body += record(event(tag, 9 * k, value))
    return body


@dialect("results.csv")
def ultralytics(curve):
    rows = [f"{k:23},{t:23},{a:23},{1:23},{v:23},{0.01:23}" for k, a, v, t in curve.rows()]
    names = ("epoch", "train/loss", "metrics/accuracy_top1", "metrics/accuracy_top5", "val/loss")
    return lines(",".join(f"{name:>23}" for name in (*names, "lr/pg0")), rows)


@dialect("summary.csv")
def timm(curve):
    rows = [f"{k - 1},{t},{v},{100 * a:.6f},99.0,0.05" for k, a, v, t in curve.rows()]
    return lines("epoch,train_loss,eval_loss,eval_top1,eval_top5,lr", rows)


@dialect("pasted.txt")
def fastai(curve):
    rows = [f"{k - 1:<10}{t:<22}{v:<22}{a:<22}00:12" for k, a, v, t in curve.rows()]
    return lines("epoch     train_loss  valid_loss  accuracy  time", rows)


@dialect("long.csv")
def long_format(curve):
    rows = []
    for k, *values in curve.rows():
        names = ("val_accuracy", "val_loss", "train_loss")
        rows += [f"{k},{name},{one}" for name, one in zip(names, values, strict=True)]
    return lines("step,metric,value", rows)


@dialect("stages.csv")
def split_column(curve):
    rows = []
    for k, a, v, t in curve.rows():
        rows += [f"{k},train,{t},", f"{k},val,{v},{a}"]
    return lines("epoch,split,loss,accuracy", rows)


@dialect("out.log")
def print_statements(curve):
    rows = [
        f"2024-05-01 12:00:00,123 INFO epoch [{k}]: train loss: {t}, val loss: {v}, val acc: {a}"
        for k, a, v, t in curve.rows()
    ]
    return lines("starting", rows)


@dialect("out.log")
def lines_of_two_stages(curve):
    rows = []
    for k, a, v, t in curve.rows():
        rows += [f"Epoch {k}/99", "-" * 10, f"train Loss: {t}", f"val Loss: {v} Acc: {a}", ""]
    return lines("", rows)


@dialect("out.log")
def tqdm(curve):
    text = ""
    for k, a, v, t in curve.rows():
        text += f"\rEpoch {k}:  50%|#####     | 5/10 [00:01<00:01, 5.0it/s, loss={t + 1}]"
        text += f"\rEpoch {k}: 100%|##########| 10/10 [00:02<00:00, loss={t}, "
        text += f"val_loss={v}, val_acc={a}]"
    return text + "\n"


@dialect("notebook.ipynb")
def notebook(curve):
    output = {"output_type": "stream", "name": "stdout", "text": [print_statements(curve)]}
    cells = [{"cell_type": "code", "source": ["fit()"], "outputs": [output]}]
    return json.dumps({"cells": cells, "nbformat": 4})


@dialect("run-1.wandb")
def wandb_offline(curve):
    records = []
    for k, a, v, t in curve.rows():
        items = {
            "val/acc": a,
            "val/loss": v,
            "train/loss": t,
            "epoch": k,
            "_step": k,
            "_runtime": 9.0,
        }
        body = b"".join(
            field(1, field(1, key.encode()) + field(16, json.dumps(value).encode()))
            for key, value in items.items()
        )
        records.append(field(2, body))
    return leveldb(records)


def varint(value):
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def field(number, body):
    """A field of a protocol buffer: a whole number or bytes."""
    if isinstance(body, int):
        return varint(number << 3) + varint(body % 2**64)
    return varint(number << 3 | 2) + varint(len(body)) + body


def event(tag, step, value):
    """TensorBoard's Event with one scalar."""
    number = varint(2 << 3 | 5) + struct.pack("<f", value)
    name = tag.encode("utf-8", "surrogatepass")
    return field(2, step) + field(5, field(1, field(1, name) + number))


def record(body):
    """A record of an event file; nobody checks its checksums."""
    return struct.pack("<Q", len(body)) + bytes(4) + body + bytes(4)


def leveldb(records):
    """A log of LevelDB as Weights & Biases writes it: no piece of a record crosses a block."""
    out = b":W&B" + b"\xe1\xbe\x00"
    for body in records:
        first = True
        while first or body:
            left = 32_768 - len(out) % 32_768
            if left < 7:
                out += bytes(left)
                continue
            piece, body = body[: left - 7], body[left - 7 :]
            kind = (1 if first else 4) if not body else (2 if first else 3)
            out += bytes(4) + struct.pack("<HB", len(piece), kind) + piece
            first = False
    return out
