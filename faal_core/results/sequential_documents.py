"""Define the documents of a sequential audit, which ends as soon as its intervals decide about limits."""

from typing import Literal

from pydantic import Field

from faal_core.results.document import Document, Fraction, Images, Status


class ClassDecision(Document):
    """Says whether a class reaches its limit, in a sequential audit. The class's row has the number of audited images."""

    name: str = Field(description="Name of the class.")
    limit: Fraction = Field(description="Smallest allowed robust accuracy of the class; 0 where the spec states none.")
    available: Images = Field(description="Number of images of the class that the audit could have used.")
    status: Status = Field(
        description="pass: the lower bound of the robust accuracy is at least the limit. fail: the upper bound is below "
        "the limit. undecided: the limit is between the bounds."
    )


class SequentialResult(Document):
    """Says why a sequential audit ended, and what it decided. Its intervals hold at every number of images together."""

    status: Status = Field(
        description="pass: every class reaches its limit. fail: a class misses its limit. undecided: neither is shown. "
        "Warnings do not change it; a gate takes them into account."
    )
    ended_by: Literal["decision", "images", "time"] = Field(
        description="Why the audit ended. decision: it is decided. images: no undecided class had images left. "
        "time: the audit was stopped."
    )
    available: int = Field(description="Number of images that the audit could have used.")
    available_sha256: str = Field(
        description="SHA-256 of these images and their labels. `dataset.sha256` is about the audited images alone."
    )
    classes: tuple[ClassDecision, ...] = Field(description="One entry for each row of `classes`, in the same order.")
