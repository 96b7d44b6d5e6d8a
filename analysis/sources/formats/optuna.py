"""Optuna's studies -> runs: a trial's reported values, and its parameters."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from analysis.sources.formats.parts import Part, Row, plain_value

_VALUE = "intermediate value"
_MINIMIZE = 1  # of StudyDirection


def _trial(run: str, rows: list[Row], settings: dict[str, Any], *, lower: bool) -> Part:
    """A trial, whose values have no name: what is maximized is taken for an accuracy, what is
    minimized for a loss."""
    role = "val_loss" if lower else "val_accuracy"
    return Part("Optuna", run, rows, settings, roles={_VALUE: role})


def parts_of_tables(database: sqlite3.Connection) -> list[Part]:
    """Read the trials in a database."""
    studies = dict(database.execute("SELECT study_id, study_name FROM studies"))
    lower = {
        study
        for study, way in database.execute("SELECT study_id, direction FROM study_directions")
        if way == "MINIMIZE"
    }
    found: list[Part] = []
    for trial, number, study in database.execute("SELECT trial_id, number, study_id FROM trials"):
        values = database.execute(
            "SELECT step, intermediate_value FROM trial_intermediate_values "
            "WHERE trial_id = ? ORDER BY step",
            (trial,),
        )
        rows: list[Row] = [{"step": step, _VALUE: value} for step, value in values]
        params = database.execute(
            "SELECT param_name, param_value, distribution_json FROM trial_params "
            "WHERE trial_id = ? ORDER BY param_name",
            (trial,),
        )
        settings = {str(key): _parameter(value, kind) for key, value, kind in params}
        run = f"trial {number}" if len(studies) == 1 else f"{studies.get(study)}, trial {number}"
        if rows:
            found.append(_trial(run, rows, settings, lower=study in lower))
    return found


def _parameter(value: Any, distribution: str) -> Any:
    """A parameter's value; of a choice, the database has the number."""
    kind = json.loads(distribution)
    attributes = kind.get("attributes", {})
    if kind.get("name") == "CategoricalDistribution":
        return attributes["choices"][int(value)]
    return int(value) if str(kind.get("name")).startswith("Int") else value


def parts_of_journal(rows: Sequence[Any]) -> list[Part]:
    """Read the trials in a journal of operations.

    0 makes a study, 4 a trial, 5 sets a parameter, 7 reports a value.
    """
    trials: list[Part] = []
    lower = any(_MINIMIZE in row.get("directions", ()) for row in rows if row["op_code"] == 0)
    for row in rows:
        if row["op_code"] == 4:
            trials.append(_trial(f"trial {len(trials)}", [], {}, lower=lower))
        trial = row.get("trial_id")
        if not isinstance(trial, int) or not 0 <= trial < len(trials):
            continue
        if row["op_code"] == 5:
            trials[trial].settings[str(row.get("param_name"))] = _parameter(
                row.get("param_value_internal"), str(row.get("distribution") or "{}")
            )
        elif row["op_code"] == 7:
            value = plain_value(row.get("intermediate_value"))
            trials[trial].rows.append({"step": row.get("step"), _VALUE: value})
    return trials
