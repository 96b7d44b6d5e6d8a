"""docs/sweep-file.md: made from the fields, and every field says what it is."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from raysweep import spec
from tests.support.sweep_file_page import page

PAGE = Path(__file__).parents[2] / "docs" / "sweep-file.md"
MODELS = [
    model
    for model in vars(spec).values()
    if isinstance(model, type) and issubclass(model, BaseModel) and model.model_fields
]


@pytest.mark.parametrize("model", MODELS)
def test_every_field_has_a_description_and_a_row(model):
    for name, field in model.model_fields.items():
        assert field.description, name
        assert f"| `{name}` |" in page()


def test_the_page_is_what_the_fields_say():
    made = "python -m tests.support.sweep_file_page > docs/sweep-file.md"
    assert PAGE.read_text() == page(), f"make it anew: {made}"
