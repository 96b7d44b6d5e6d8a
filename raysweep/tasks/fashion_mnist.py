"""Fashion-MNIST (70,000 images, 28 x 28) from its IDX files, and a small convolutional network."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raysweep.errors import InputError
from raysweep.spec import Hyperparameters
from raysweep.tasks import Arrays, Data, Task

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "validation": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def load(folder: Path | None) -> Data:
    """Load 60,000 images to train on and the 10,000 test images to validate on, as bytes.

    Raises: InputError that says how to get the files, or which one is damaged.
    """
    folder = folder or DEBIAN_FOLDER
    train, validation = (
        Arrays(_read_idx(folder, images)[:, None], _read_idx(folder, labels).astype(np.int64))
        for images, labels in FILES.values()
    )
    return Data(train, validation, num_classes=10)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """An array of unsigned bytes in IDX format, plain or gzipped."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.exists() and not packed.exists():
        raise InputError(
            f"fashion_mnist: no {name} or {name}.gz in {folder}. On Debian or Ubuntu: "
            "apt-get install dataset-fashion-mnist; elsewhere put the four IDX files into a "
            "folder and name it: --set data=FOLDER"
        )
    try:
        body = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise InputError(f"fashion_mnist: {packed} can't be read: {error}") from error
    if len(body) < 4 or body[:3] != b"\0\0\x08":
        raise InputError(f"fashion_mnist: {name} in {folder} is no IDX file of bytes")
    num_axes = body[3]
    shape = np.frombuffer(body, ">i4", num_axes, offset=4)
    values = np.frombuffer(body, np.uint8, offset=4 + 4 * num_axes)
    if values.size != shape.prod():
        raise InputError(f"fashion_mnist: {name} in {folder} is cut short")
    return values.reshape(shape)


class _ScaleBytes(nn.Module):
    """Scales pixels from bytes to about zero mean and unit variance over the training set."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale bytes of any shape."""
        return x.float().sub_(72.94).div_(90.02)


def build(trial: Hyperparameters, data: Data) -> nn.Module:
    """Build `depth` stages of convolution, ReLU and pooling, then a linear layer.

    The first stage has `width` / 4 channels, and each further one twice as many.
    """
    if trial.depth > 4:
        raise InputError(f"fashion_mnist: depth = {trial.depth}; 28 pixels can be halved 4 times")
    layers: list[nn.Module] = [_ScaleBytes()]
    inputs, side = 1, 28
    for stage in range(trial.depth):
        outputs = max(1, trial.width // 4) * 2**stage
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs, side = outputs, side // 2
    layers.append(nn.Flatten())
    if trial.dropout:
        layers.append(nn.Dropout(trial.dropout))
    return nn.Sequential(*layers, nn.Linear(inputs * side * side, data.num_classes))


task = Task(load, build)
