"""An LSTM over packed sequences of unlike lengths."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import Dataset

from raysweep import Data, Loader, Task


class Walks(Dataset):
    """Random walks of 5 to 30 steps; the class says whether a walk drifts up or down."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 2, count)
        lengths = rng.integers(5, 31, count)
        steps = [rng.standard_normal(length) for length in lengths]
        self.walks = [
            (step + 0.4 * (2 * label - 1)).cumsum().astype("float32")
            for step, label in zip(steps, self.labels, strict=True)
        ]

    def __len__(self):
        return len(self.walks)

    def __getitem__(self, index):
        return torch.from_numpy(self.walks[index]), int(self.labels[index])


def pad(examples):  # inputs are a tuple: the model is called with both of its parts
    walks, labels = zip(*examples, strict=True)
    lengths = torch.tensor([len(walk) for walk in walks])
    return (pad_sequence(walks, batch_first=True), lengths), torch.tensor(labels)


def load(folder):
    loader = Loader(collate_fn=pad)
    return Data(Walks(400, 0), Walks(300, 1), num_classes=2, digest="walks 1", loader=loader)


class Reader(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.lstm = nn.LSTM(1, width, batch_first=True)
        self.head = nn.Linear(width, 2)

    def forward(self, walks, lengths):
        packed = pack_padded_sequence(
            walks[..., None], lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.head(self.lstm(packed)[1][0][-1])


def build(trial, data):
    return Reader(trial.width)


task = Task(load, build)
