"""A small ResNet with batch norm on Fashion-MNIST, with crops and flips on the device."""

import torch
from torch import nn
from torch.nn import functional

from raysweep import Task
from raysweep.tasks import fashion_mnist


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return functional.relu(self.main(x) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.layers = nn.Sequential(
            Residual(1, width, 2), Residual(width, 2 * width, 2), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x):  # bytes come in: they are a quarter of the memory
        return self.head(self.layers(x.float() / 255).flatten(1))


def build(trial, data):
    return ResNet(trial.width, data.num_classes)


def augment(trial, inputs, targets):  # one crop for each batch, one flip for each image
    top, left = torch.randint(0, 5, (2,)).tolist()
    moved = functional.pad(inputs, (2, 2, 2, 2))[..., top : top + 28, left : left + 28]
    flips = torch.rand(len(inputs), 1, 1, 1, device=inputs.device) < 0.5
    return torch.where(flips, moved.flip(-1), moved), targets


task = Task(fashion_mnist.load, build, augment=augment)
