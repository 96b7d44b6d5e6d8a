"""Makes the page of what can be learnt from the columns that one has, docs/what-you-can-learn.md.

python -m analysis.calibration.learnt_page                # some minutes of one core
python -m analysis.calibration.learnt_page --scale 0.03   # few curves, to see that it runs
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.calibration.known_columns import COLUMNS, known_columns
from analysis.calibration.still_curves import still_curves

_PAGE = Path(__file__).parents[2] / "docs" / "what-you-can-learn.md"
_TEMPLATE = Path(__file__).with_name("what-you-can-learn.md")
Rows = list[dict[str, Any]]


def page(columns: Rows, still: Rows) -> str:
    """Write the page. Args: rows of known_columns() and still_curves()."""
    return _TEMPLATE.read_text("utf-8").format(
        command="python -m analysis.calibration.learnt_page",
        configurations=columns[0]["num"],
        curves=still[0]["num"],
        overfitting=_of_columns(columns, "overfitting", _harm),
        noise=_of_columns(columns, "noise", lambda row: _percent(row["noise"])),
        still=_of_still(still),
    )


def _of_columns(rows: Rows, what: str, told: Any) -> str:
    shapes = list(dict.fromkeys((row["seeds"], row["epochs"], row["n"]) for row in rows))
    head = (f"{what}, %: seeds, epochs, n", *COLUMNS)
    body = [
        (
            f"{seeds}, {epochs}, {n:,}",
            *(
                told(row)
                for row in rows
                if (row["seeds"], row["epochs"], row["n"]) == (seeds, epochs, n)
            ),
        )
        for seeds, epochs, n in shapes
    ]
    return _table(head, body)


def _harm(row: dict[str, Any]) -> str:
    inside = "; ".join(_percent(row[name]) for name in ("power", "false", "spared"))
    return f"{_percent(row['overfit'])} [{inside}]"


def _of_still(rows: Rows) -> str:
    head = ("learning, epochs", "n", "fall, pp", "told, %", "noise label, %", "optimizer, %")
    return _table(
        head,
        [
            (
                f"{row['learning']:g}",
                f"{row['n']:,}",
                f"{100 * row['fall']:g}",
                *(f"{100 * row[name]:.1f}" for name in ("told", "noise", "optimizer")),
            )
            for row in rows
        ],
    )


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.0f}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibration.learnt_page")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the size of the page")
    parser.add_argument("--page", type=Path, default=_PAGE)
    args = parser.parse_args(argv)
    made = page(list(known_columns(args.scale)), list(still_curves(args.scale)))
    args.page.write_text(made, "utf-8")


if __name__ == "__main__":
    main()
