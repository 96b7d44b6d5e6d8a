"""What a person pastes from a terminal gives a curve and a page, with the values that it shows."""

import math
import subprocess
import sys

import pytest

from analysis import analyze, read_curves
from analysis.page.report import render
from raysweep.errors import InputError

EPOCHS = range(20)
ACCURACY = [round(0.5 + 0.4 * (1 - math.exp(-k / 5)) + 0.01 * math.sin(9 * k), 3) for k in EPOCHS]
LOSS = [round(1.5 * math.exp(-k / 6) + 0.4 + 0.01 * math.cos(7 * k), 4) for k in EPOCHS]
TRAIN = [round(1.6 * math.exp(-k / 6) + 0.2, 4) for k in EPOCHS]
ROWS = [*zip(EPOCHS, ACCURACY, LOSS, TRAIN, strict=True)]
UP = "\x1b[1m\x1b[32m"


def keras_in_a_terminal():
    text = ""
    for k, a, v, t in ROWS:
        text += f"Epoch {k + 1}/20\n\r{UP}1/9\x1b[0m ━━━━ 1s 20ms/step - accuracy: 0.1 - loss: 9.0"
        text += f"\r{UP}9/9\x1b[0m ━━━━ 1s 20ms/step - accuracy: {a + 0.05:.4f} - loss: {t:.4f}"
        text += f" - val_accuracy: {a:.4f} - val_loss: {v:.4f} - learning_rate: 0.0010\n"
    return text


def old_keras_with_checkpoints():
    text = "Train on 8000 samples, validate on 1000 samples\n"
    for k, a, v, t in ROWS:
        text += f"Epoch {k + 1}/20\n 32/8000 [>....] - ETA: 5s - loss: 9.0 - acc: 0.1" + "\x08" * 40
        text += f"\r8000/8000 [====] - 5s 6us/step - loss: {t} - acc: 0.9 - val_loss: {v} - "
        text += (
            f"val_acc: {a}\n\nEpoch {k + 1:05d}: val_acc improved from 0.1 to {a}, saving model\n"
        )
    return text


def plain_prints():
    return "".join(
        f"epoch [{k + 1}]: train_loss: {t}, val_loss: {v}, acc: {a}\n" for k, a, v, t in ROWS
    )


def prints_of_one_set():
    return "".join(f"epoch [{k}]: loss: {v} acc: {a}\n" for k, a, v, _ in ROWS)


def tqdm():
    text = ""
    for k, a, v, t in ROWS:
        text += f"\rEpoch {k}:  50%|#####     | 5/10 [00:01<00:01, 5.0it/s, loss={t + 1}]"
        text += f"\rEpoch {k}: 100%|##########| 10/10 [00:02<00:00, loss={t}, val_loss={v}, "
        text += f"val_acc={a}]\n"
    return text


def lightnings_progress():
    text, stale = "", ""
    for k, a, v, t in ROWS:
        for done in (0, 50, 100):
            text += (
                f"\rEpoch {k}: {done:3d}%|###| {done}/100 [00:01<00:01, v_num=0, loss={t}{stale}]"
            )
        stale = f", val_loss={v}, val_acc={a}"
        text += "\n\rValidation DataLoader 0: 100%|###| 4/4 [00:00<00:00, 354.5it/s]\x1b[A\n"
        text += f"\rEpoch {k}: 100%|###| 100/100 [00:02<00:00, v_num=0, loss={t}{stale}]"
    return text + "`Trainer.fit` stopped: `max_epochs=20` reached.\n"


def fastai_behind_a_prompt():
    head = "$ python train.py\nepoch     train_loss  valid_loss  accuracy  time    \n"
    return head + "".join(f"{k:<10}{t:<12}{v:<12}{a:<10}00:12   \n" for k, a, v, t in ROWS) + "$ "


def two_phases():
    return "".join(
        f"Epoch {k}/19\n----------\ntrain Loss: {t} Acc: 0.9\nval Loss: {v} Acc: {a}\n\n"
        for k, a, v, t in ROWS
    )


def mnist_example():
    text = ""
    for k, a, v, t in ROWS:
        text += f"Train Epoch: {k + 1} [0/60000 (0%)]\tLoss: {t:.6f}\n"
        right = round(1000 * a)
        text += f"\nTest set: Average loss: {v}, Accuracy: {right}/1000 ({right / 10:.0f}%)\n\n"
    return text


def hugging_face():
    return "".join(
        f"{{'loss': {t}, 'learning_rate': 1e-05, 'epoch': {k + 1.0}}}\n"
        f"{{'eval_loss': {v}, 'eval_accuracy': {a}, 'epoch': {k + 1.0}}}\n"
        for k, a, v, t in ROWS
    )


def imagenet_example():
    text = ""
    for k, a, _, t in ROWS:
        text += f"Epoch: [{k}][ 0/99]\tTime 0.5 ( 0.5)\tLoss {t + 1:.4e} ({t:.4e})\t"
        text += "Acc@1 50.0 ( 48.0)\n"
        text += f" * Acc@1 {100 * a:.3f} Acc@5 99.000\n"
    return text


def mmengine():
    text, stamp = "", "2023/05/04 12:00:00 - mmengine - INFO - "
    for k, a, _, t in ROWS:
        text += f"{stamp}Epoch(train)  [{k + 1}][99/99]  lr: 1.0e-01  eta: 1:00:00  loss: {t}\n"
        text += f"{stamp}Epoch(val) [{k + 1}][79/79]    accuracy/top1: {100 * a:.4f}  time: 0.03\n"
    return text


def a_logger():
    return "".join(
        f"2024-05-01 12:00:00,123 - INFO - train.py:57 - [Epoch {k + 1}/20] train_loss={t} "
        f"val_loss={v} val_acc={100 * a:.2f}% lr=1.00e-03 time=12.3s\n"
        for k, a, v, t in ROWS
    )


def columns_of_pipes():
    return "".join(
        f"| epoch {k + 1:3d} | Train Loss {t} | Val. Loss {v} | Val. Acc {100 * a:.2f}% |\n"
        for k, a, v, t in ROWS
    )


def a_sentence():
    return "".join(
        f"Epoch [{k + 1}/20], Loss: {t}\n"
        f"Accuracy of the network on the 1000 test images: {100 * a:.1f} %\n"
        for k, a, _, t in ROWS
    )


def ultralytics():
    text = ""
    for k, a, _, t in ROWS:
        text += (
            f"\n  Epoch    GPU_mem    loss  Instances  Size\n  {k + 1}/20   0.2G   {t}   16   64: "
        )
        text += (
            "100%|███| 9/9 [00:01<00:00]\n        classes   top1_acc   top5_acc: 100%|███| 2/2\n"
        )
        text += f"            all      {a}          1\n"
    return text


PASTED = [
    *(keras_in_a_terminal, old_keras_with_checkpoints, plain_prints, prints_of_one_set, tqdm),
    *(lightnings_progress, fastai_behind_a_prompt, two_phases, mnist_example, hugging_face),
    *(imagenet_example, mmengine, a_logger, columns_of_pipes, a_sentence, ultralytics),
]


@pytest.mark.parametrize("write", PASTED, ids=lambda write: write.__name__)
def test_a_pasted_text_is_a_curve(tmp_path, write):
    path = tmp_path / "pasted.txt"
    path.write_text(write())
    log = read_curves(path)
    assert log.curves["epoch"].to_list() == list(range(1, 21)), log
    assert log.curves["val_accuracy"].to_list() == pytest.approx(ACCURACY, abs=6e-5), log
    if "val_loss" in log.curves.columns:
        assert log.curves["val_loss"].to_list() == pytest.approx(LOSS, abs=6e-5), log
    if write in (old_keras_with_checkpoints, mnist_example, a_sentence):
        assert set(log.curves["num_val"]) == {1000}


@pytest.mark.parametrize("write", PASTED[:10], ids=lambda write: write.__name__)
def test_a_pasted_text_gives_a_page_from_standard_input(tmp_path, write):
    command = [sys.executable, "-m", "raysweep.main", "report", "-", "--out", "page.html"]
    done = subprocess.run(
        command, input=write().encode(), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    shown, _, table = done.stdout.partition(b"standard input: ")
    assert shown == write().encode()  # a pipe is passed on
    assert b"1 run of 20 evaluations" in table
    assert "noise" in (tmp_path / "page.html").read_text().lower()


def test_two_fits_in_one_text_are_two_configurations(tmp_path):
    path = tmp_path / "pasted.txt"
    path.write_text(keras_in_a_terminal() + keras_in_a_terminal())
    log = read_curves(path)
    assert log.config == ("run",)
    assert log.curves["trial_id"].n_unique() == 2
    assert "pasted (2)" in render(analyze(log))


@pytest.mark.parametrize(
    "text", ["", "hello world\n", "Traceback (most recent call last):\n  File 'a.py', line 3\n"]
)
def test_a_text_without_numbers_of_a_metric_is_refused(tmp_path, text):
    path = tmp_path / "pasted.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"pasted\.txt (is empty|holds no)"):
        read_curves(path)
