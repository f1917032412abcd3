"""Columns of groups: what else is known of each image beside its class, such as where or of whom it was taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from faal_core.datasets.names import require_names
from faal_core.errors import DatasetInvalid
from faal_core.results.image_outcomes import Rows
from faal_core.specs.class_names import MAX_NAME_LENGTH

MAX_COLUMNS = 10
MAX_GROUPS = 100


@dataclass(frozen=True)
class Grouping:
    """One column.

    Args:
        column: its name.
        names: of its groups, distinct, in alphabetical order.
        members: `n`, int64: which group each image belongs to, each in 0..g-1 for g names.
    """

    column: str
    names: tuple[str, ...]
    members: Rows

    @classmethod
    def of(cls, column: str, values: Sequence[str] | np.ndarray) -> Self:
        """The column in which each image has the value of its place; groups in alphabetical order. Raises: DatasetInvalid."""
        names = sorted({str(value) for value in values})  # judged before NumPy gives each value the room of the longest
        if len(names) > MAX_GROUPS:
            raise DatasetInvalid(
                f"The column {column[:MAX_NAME_LENGTH]!r} has {len(names):,} groups; at most {MAX_GROUPS} are allowed."
            )
        require_names("a column of groups", [column])
        require_names(f"a group of {column!r}", names)
        places = {name: place for place, name in enumerate(names)}
        return cls(column, tuple(names), np.array([places[str(value)] for value in values], np.int64))

    def take(self, rows: Rows) -> Self:
        """The column for those images alone, with the groups that they are of."""
        return type(self).of(self.column, np.asarray(self.names)[self.members[rows]])


def require_few(columns: Sequence[str]) -> None:
    """Returns if that many columns are read. Raises: DatasetInvalid."""
    if len(columns) > MAX_COLUMNS:
        raise DatasetInvalid(f"There are {len(columns)} columns of groups; at most {MAX_COLUMNS} are read.")
