"""docs/report.md explains every field of the documents, and none that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport

PAGE = (Path(__file__).parents[4] / "docs/report.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that an annotation speaks of, at any depth of unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def reachable() -> list[type[BaseModel]]:
    """Every type of which a report consists."""
    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [AuditReport, FinetuneReport]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
    return found


@pytest.mark.parametrize("model", reachable(), ids=lambda model: model.__name__)
def test_every_field_is_explained(model: type[BaseModel]) -> None:
    """The type has a section that names each of its fields, and no others."""
    section = SECTIONS[model.__name__]
    rows = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    named = rows or set(re.findall(r"`(\w+)`", section))
    assert named == set(model.model_fields)


def test_every_section_is_of_a_type() -> None:
    """The page has no section for a type that is gone."""
    assert set(SECTIONS) == {model.__name__ for model in reachable()}
