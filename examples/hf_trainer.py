"""The Trainer of Hugging Face with a tiny BERT: one callback reports each evaluation.

raysweep run examples/hf_trainer.yaml
"""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from raysweep import Loop
from raysweep.loops.transformers import ReportCallback


class Sums(Dataset):
    """Sequences of eight digits; the class is whether the first is larger than the last."""

    def __init__(self, size, seed):
        self.ids = torch.randint(0, 10, (size, 8), generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "labels": int(self.ids[i, 0] > self.ids[i, -1])}


train, validation = Sums(1000, seed=0), Sums(401, seed=1)


def run(trial, report):
    sizes = {"hidden_size": trial.width, "intermediate_size": 2 * trial.width}
    sizes |= {"num_hidden_layers": trial.depth, "num_attention_heads": 2, "vocab_size": 10}
    callback = ReportCallback(report)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=trial.epochs,
            per_device_train_batch_size=trial.batch_size // report.world_size,
            learning_rate=trial.learning_rate,
            seed=report.seed,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=report.device.type == "cpu",
        )
        Trainer(
            BertForSequenceClassification(BertConfig(**sizes)),
            arguments,
            train_dataset=train,
            eval_dataset={"train": train, "validation": validation},
            compute_metrics=callback.compute_metrics,
            callbacks=[callback],
        ).train()


task = Loop(run, num_val=len(validation), num_train=len(train))
