"""Whether a CUDA graph or torch.compile would pay: a plain step of an MLP as it is, and with each.

raysweep uses neither: docs/performance.md tells why. Needs a CUDA device; `--short` runs the plain
step alone on the CPU. `python benchmarks/gpu_steps.py [--repeats 5]`
"""

import sys
import time
from collections.abc import Callable

import measure
import torch
from problems import Problem, epochs_in_turn, fresh, problem, synthetic
from torch import nn
from torch.nn import functional

# Examples, batch size, width of the three hidden layers.
SIZES = [(50_000, 128, 128), (50_000, 1_024, 1_024), (50_000, 4_096, 4_096)]
RATE = 0.01


def plain(one: Problem, wrap: Callable[[nn.Module], nn.Module]) -> Callable[[int], object]:
    """An epoch of plain steps with a model."""
    model, optimizer = fresh(one)
    for settings in optimizer.param_groups:
        settings["lr"] = RATE
    forward, (x, y) = wrap(model), one.train_set

    def epoch(_: int) -> None:
        for index in torch.randperm(len(y)).to(one.device).split(one.fields.batch_size):
            for parameter in model.parameters():
                parameter.grad = None
            functional.cross_entropy(forward(x[index]), y[index]).backward()
            optimizer.step()

    return epoch


def graphed(one: Problem) -> Callable[[int], object]:
    """An epoch of replays of one captured step; a last batch that is smaller is left out."""
    model, optimizer = fresh(one)
    for settings in optimizer.param_groups:
        settings["lr"] = torch.tensor(RATE, device=one.device)
    x, y = one.train_set
    size = one.fields.batch_size
    index = torch.zeros(size, dtype=torch.long, device=one.device)

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def epoch(_: int) -> None:
        for batch in torch.randperm(len(y)).to(one.device).split(size):
            if len(batch) == size:
                index.copy_(batch)
                graph.replay()

    return epoch


def main() -> None:
    """Print the tables."""
    parser = measure.options(__doc__)
    parser.set_defaults(repeats=5)
    asked = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not asked.short:
        sys.exit("no CUDA device here: only --short runs without one")
    device = torch.device("cuda" if has_gpu else "cpu")
    print(measure.machine())
    for n, size, width in [(1_000, 128, 64)] if asked.short else SIZES:
        one = problem("steps", synthetic(n), size, 1, device, width=width, depth=3)
        makers: dict[str, Callable[[], Callable[[int], object]]] = {
            "plain": lambda one=one: plain(one, lambda model: model)
        }
        if has_gpu:
            makers["CUDA graph"] = lambda one=one: graphed(one)
            makers["torch.compile"] = lambda one=one: plain(
                one,
                torch.compile,  # pyright: ignore[reportArgumentType]
            )
        runs: dict[str, Callable[[int], object]] = {}
        for name, make in makers.items():
            started = time.perf_counter()
            runs[name] = make()
            runs[name](0)
            print(f"{name}: ready after {time.perf_counter() - started:.2f} s, an epoch included")
        found = epochs_in_turn([1], runs, 2 if asked.short else asked.repeats)
        title = f"{n:,} examples, batch {size:,}, 3 layers of {width:,}"
        print(measure.table(title, found, "plain", "ms per epoch"), flush=True)


if __name__ == "__main__":
    main()
