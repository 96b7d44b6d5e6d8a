"""A training loop of one's own: the script as it is, and one line that reports each epoch.

raysweep run examples/own_loop.yaml
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from raysweep import Loop

images, classes = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(classes)
train_x, train_y, val_x, val_y = x[:1000], y[:1000], x[1000:], y[1000:]


def run(trial, report):
    model = nn.Sequential(nn.Linear(64, trial.width), nn.ReLU(), nn.Linear(trial.width, 10))
    optimizer = torch.optim.SGD(model.parameters(), trial.learning_rate, trial.momentum)
    if report.state:  # kept by an attempt at this trial whose process died
        model.load_state_dict(report.state["model"])
        optimizer.load_state_dict(report.state["optimizer"])
    for _ in report.epochs():  # the epochs that are left, each with generators of its own
        model.train()
        for batch in torch.randperm(len(train_x)).split(trial.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train_x[batch]), train_y[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits, known = model(val_x), model(train_x)
        report(
            outputs=logits,
            targets=val_y,
            train_accuracy=(known.argmax(1) == train_y).float().mean().item(),
            train_loss=nn.functional.cross_entropy(known, train_y).item(),
            lr=trial.learning_rate,
            checkpoint=lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        )


task = Loop(run, num_val=len(val_x), num_train=len(train_x))
