"""A Keras 3 model, on torch: each epoch's predictions of the validation set are reported.

raysweep run examples/keras_model.yaml
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras is imported

import keras
from sklearn.datasets import load_digits

from raysweep import Loop
from raysweep.loops.keras import ReportCallback

images, y = load_digits(return_X_y=True)
x = images / 16
train_x, train_y, val_x, val_y = x[:1000], y[:1000], x[1000:], y[1000:]


def run(trial, report):
    keras.utils.set_random_seed(report.seed)
    model = keras.Sequential(
        [
            keras.layers.Dense(trial.width, activation="relu"),
            keras.layers.Dropout(trial.dropout),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(trial.learning_rate), "sparse_categorical_crossentropy")
    model.fit(
        train_x,
        train_y,
        batch_size=trial.batch_size,
        epochs=trial.epochs,
        verbose=0,  # pyright: ignore[reportArgumentType]
        callbacks=[ReportCallback(report, val_x, val_y, train=(train_x, train_y))],
    )


task = Loop(run, num_val=len(val_x), num_train=len(train_x))
