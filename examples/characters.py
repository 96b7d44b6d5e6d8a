"""A language model of characters: a loss and a score for each token of a window."""

import inspect
import textwrap

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raysweep import Arrays, Data, Task

WINDOW, NUM_CHARACTERS = 32, 128


def load(folder):
    text = inspect.getsource(textwrap)  # any text will do
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype("int64")
    windows = codes[: len(codes) // (WINDOW + 1) * (WINDOW + 1)].reshape(-1, WINDOW + 1)
    cut = len(windows) * 3 // 4
    train, validation = windows[:cut], windows[cut:]
    return Data(
        Arrays(train[:, :-1], train[:, 1:]),
        Arrays(validation[:, :-1], validation[:, 1:]),
        # Neighbouring windows are of one function: they belong into one block.
        val_clusters=np.arange(len(validation)) // 4,
    )


class Characters(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(NUM_CHARACTERS, width)
        self.positions = nn.Parameter(0.02 * torch.randn(WINDOW, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True)
        self.head = nn.Linear(width, NUM_CHARACTERS)
        mask = nn.Transformer.generate_square_subsequent_mask(WINDOW)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return self.head(self.block(self.embedding(x) + self.positions, self.mask))


def build(trial, data):
    return Characters(trial.width)


def loss(outputs, targets):  # shape (windows, tokens); cross-entropy wants classes second
    return functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")


def score(outputs, targets):  # truth values: the share of tokens that are right
    return outputs.argmax(2) == targets


task = Task(load, build, loss=loss, score=score, score_name="token accuracy")
