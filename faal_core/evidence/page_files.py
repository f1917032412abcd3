"""Say what each file of a pack is for, in the words of its page."""

from collections.abc import Mapping

from faal_core.evidence import contents
from faal_core.results.reading import REPORT

PURPOSES: Mapping[str, str] = {
    REPORT: "the report: all numbers of this page",
    contents.SPEC: "settings of the audit: attacks, radius, images",
    "outcomes.parquet": "outcome of each image; all statistics follow from it",
    "outcomes-before.parquet": "outcome of each image before the fine-tuning",
    "outcomes-after.parquet": "outcome of each image after the fine-tuning",
    **dict.fromkeys(contents.POLICIES, "the limits"),
    contents.APPROVAL: "signature of the limits",
    contents.GATE: "result of each limit",
    contents.BATCHES: "result of each batch of images, from the audit's ledger",
    contents.ADVERSARIAL: "adversarial images, to predict them again",
    contents.ENVIRONMENT: "versions and processor of the machine that wrote the pack",
    contents.SBOM: "Python packages of that machine",
}
"""The purpose of each file that the page lists, by its name."""
