"""Columns of groups: what is known of each image beside its class, for example the camera or the patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from faal_core.datasets.names import require_names
from faal_core.errors import DatasetInvalid
from faal_core.results.image_outcomes import Rows
from faal_core.specs.class_names import MAX_COLUMNS, MAX_GROUPS, MAX_NAME_LENGTH


@dataclass(frozen=True)
class Grouping:
    """One column of groups.

    Args:
        column: the column's name.
        names: the distinct names of its groups, in alphabetical order.
        members: `n`, int64: the group of each image, in 0..g-1 for g names.
    """

    column: str
    names: tuple[str, ...]
    members: Rows

    @classmethod
    def from_values(cls, column: str, values: Sequence[str] | np.ndarray) -> Self:
        """Return the column with one value for each image; groups are in alphabetical order. Raises: DatasetInvalid."""
        # Names are checked first, because NumPy would give each value the length of the longest.
        names = sorted({str(value) for value in values})
        if len(names) > MAX_GROUPS:
            raise DatasetInvalid(
                f"The column {column[:MAX_NAME_LENGTH]!r} has {len(names):,} groups; at most {MAX_GROUPS} are allowed."
            )
        require_names("a column of groups", [column])
        require_names(f"a group of {column!r}", names)
        places = {name: place for place, name in enumerate(names)}
        return cls(column, tuple(names), np.array([places[str(value)] for value in values], np.int64))

    def take(self, rows: Rows) -> Self:
        """Return the column for those images, with only the groups that occur among them."""
        return type(self).from_values(self.column, np.asarray(self.names)[self.members[rows]])


def require_few_columns(columns: Sequence[str]) -> None:
    """Check that there are at most `MAX_COLUMNS` columns. Raises: DatasetInvalid."""
    if len(columns) > MAX_COLUMNS:
        raise DatasetInvalid(f"There are {len(columns)} columns of groups; at most {MAX_COLUMNS} are allowed.")
