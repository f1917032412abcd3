"""The audit of a classifier: per-class accuracy clean and attacked, with checks of its own trustworthiness."""

from faal_core.audit.run import Audited, audit

__all__ = ["Audited", "audit"]
