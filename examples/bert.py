"""A tiny BERT from a configuration: a padding collator, and weight decay for some weights only."""

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

from raysweep import Data, Loader, Task

VOCABULARY = 50


class Sentences(Dataset):
    """Random words; a sentence is of class 1 if word 7 comes before word 8."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.words = [rng.integers(9, VOCABULARY, rng.integers(4, 12)) for _ in range(count)]
        self.labels = rng.integers(0, 2, count)
        for words, label in zip(self.words, self.labels, strict=True):
            first, second = sorted(rng.choice(len(words), 2, replace=False))
            words[first], words[second] = (7, 8) if label else (8, 7)

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def pad(examples):  # transformers.DataCollatorWithPadding(tokenizer) does as well
    words = [torch.as_tensor(example["input_ids"]) for example in examples]
    return {
        "input_ids": pad_sequence(words, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(w) for w in words], batch_first=True),
        "labels": torch.as_tensor([example["labels"] for example in examples]),
    }


def load(folder):
    train, validation = Sentences(400, seed=0), Sentences(200, seed=1)
    return Data(train, validation, 2, digest="words 1", loader=Loader(collate_fn=pad))


def build(trial, data):  # called with the names of the mapping; its `logits` are the outputs
    sizes = {"hidden_size": trial.width, "num_hidden_layers": 1, "num_attention_heads": 2}
    drops = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, **sizes, **drops)
    return BertForSequenceClassification(config)


def optimizer(trial, model):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, trial.learning_rate, weight_decay=trial.weight_decay)


task = Task(load, build, optimizer=optimizer)
