"""The address of the list of jobs: its filters, its order, and the values that the start form begins with."""

from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.schemas.requests import Line
from api.serving.job_filters import parse_pairs
from jobs.job_order import JOB_ORDER, NEWEST_FIRST
from jobs.queries import JobFilters
from jobs.states import JobKind, JobState

_METADATA = "metadata."

ORDERS: Mapping[str, str] = {
    NEWEST_FIRST: "Newest first",
    "created": "Oldest first",
    "robust_worst": "Worst class, lowest first",
    "-robust_worst": "Worst class, highest first",
    "robust_mean": "Mean, lowest first",
    "-robust_mean": "Mean, highest first",
    "epsilon": "Radius ε, smallest first",
    "-epsilon": "Radius ε, largest first",
}


Choice = BeforeValidator(lambda value: value or None)  # a form sends an empty text for a choice that was not made


class ListQuery(BaseModel):
    """The parameters of the page with the list of jobs."""

    model_config = ConfigDict(frozen=True)

    search: Annotated[Line, Field(max_length=100)] = ""
    kind: Annotated[JobKind | None, Choice] = None
    status: Annotated[JobState | None, Choice] = None
    metadata: Annotated[list[Line], Field(max_length=16)] = []
    checks: bool = False
    order: Annotated[str, Field(pattern=JOB_ORDER)] = NEWEST_FIRST
    after: Annotated[str | None, Field(pattern=r"^[\x21-\x7e]+$", max_length=100)] = None
    model: Annotated[str, Field(max_length=100)] = ""  # that the form begins with
    like: Annotated[str, Field(max_length=100)] = ""  # job with whose settings the form begins

    @property
    def filters(self) -> JobFilters:
        """Return the filters of the list. Raises: InvalidRequest for metadata that is no key and value."""
        return {
            "search": self.search.strip(),
            "kind": self.kind,
            "status": self.status,
            "metadata": parse_pairs(self.metadata),
            "checks": self.checks,
        }

    @property
    def filtered(self) -> bool:
        """Return whether a filter leaves out more than the checks of uploads."""
        return bool(self.search.strip() or self.kind or self.status or self.metadata or self.order_key)

    @property
    def order_key(self) -> str:
        """Return the metadata key to sort by, or an empty text."""
        return self.order.removeprefix("-").removeprefix(_METADATA) if _METADATA in self.order else ""

    def orders(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Return the names of the orders to choose from, with those by the metadata keys."""
        by_key = sorted({*keys, self.order_key} - {""})
        ascending = {f"{_METADATA}{key}": f"{key}, A to Z" for key in by_key}
        return {**ORDERS, **ascending, **{f"-{order}": f"{name[:-6]}Z to A" for order, name in ascending.items()}}

    def address(self, **changes: object) -> str:
        """Return the address of the page with these parameters, without those that have their default values."""
        parameters = self.model_copy(update={"after": None, "model": "", "like": "", **changes}).model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        )
        texts = {name: "true" if value is True else value for name, value in parameters.items()}
        return f"/?{urlencode(texts, doseq=True)}" if texts else "/"
