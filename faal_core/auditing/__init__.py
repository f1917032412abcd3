"""Audit a classifier: per-class accuracy, clean and attacked, with checks of whether the numbers can be trusted.

`run.audit` goes from images to the report. `evaluator` turns each image into an outcome, `reliability` looks for signs of
a broken audit, and `gallery` chooses images for the report.
"""

from faal_core.auditing.run import AuditResult, audit

__all__ = ["AuditResult", "audit"]
