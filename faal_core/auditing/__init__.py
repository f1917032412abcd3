"""Audit a classifier: per-class accuracy, clean and attacked, with checks of whether the numbers can be trusted.

`call.audit` takes what a caller in Python has; `run.run_audit` goes from images to the report. `evaluator` turns each image into
an outcome, `reliability` looks for signs of a broken audit, and `gallery` chooses images for the report.
"""

from faal_core.auditing.call import audit
from faal_core.auditing.comparison import AuditComparison, AuditTable, compare, tabulate
from faal_core.auditing.radii import RadiusSeries
from faal_core.auditing.result import AuditResult

__all__ = ["AuditComparison", "AuditResult", "AuditTable", "RadiusSeries", "audit", "compare", "tabulate"]
