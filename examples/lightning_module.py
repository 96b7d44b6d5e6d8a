"""A LightningModule as it is: its `validation_step` returns outputs and targets.

raysweep run examples/lightning_module.yaml
"""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from raysweep import Loop
from raysweep.loops.lightning import ReportCallback

images, classes = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(classes)
train, validation = TensorDataset(x[:1000], y[:1000]), TensorDataset(x[1000:], y[1000:])


class Digits(pl.LightningModule):
    def __init__(self, width, learning_rate):
        super().__init__()
        self.learning_rate = learning_rate
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch, index, dataloader_idx=0):
        return {"outputs": self.layers(batch[0]), "targets": batch[1]}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.learning_rate)


def run(trial, report):
    trainer = pl.Trainer(
        max_epochs=trial.epochs,
        callbacks=[ReportCallback(report)],
        accelerator="auto" if report.device.type == "cuda" else "cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # A second validation loader is taken as training examples, measured in eval mode.
    measured = [DataLoader(part, batch_size=500) for part in (validation, train)]
    shuffled = DataLoader(train, trial.batch_size, shuffle=True)
    trainer.fit(Digits(trial.width, trial.learning_rate), shuffled, measured)


task = Loop(run, num_val=len(validation), num_train=len(train))
