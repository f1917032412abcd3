"""What can be asked for: classifiers, attacks, audits and fine-tuning, as JSON with bounds and defaults.

Every number a result depends on stands here and is kept with the report. Source of the defaults: docs/method.md.
"""

from faal_core.specs.audit import ApgdSpec, AttackSpec, AuditSettings, AuditSpec, FabSpec, PgdSpec, SquareSpec
from faal_core.specs.classifier import ClassifierSpec
from faal_core.specs.methods import (
    METHODS,
    CfaMethod,
    CfolMethod,
    DafaMethod,
    Divergence,
    FaalMethod,
    FrlMethod,
    MethodSpec,
    UniformMethod,
    WatMethod,
)
from faal_core.specs.spec import MAX_CLASSES, Spec
from faal_core.specs.training import Averaging, FinetuneSpec, TrainingAttack, TrainingSpec, WeightPerturbation

__all__ = [
    "MAX_CLASSES",
    "METHODS",
    "ApgdSpec",
    "AttackSpec",
    "AuditSettings",
    "AuditSpec",
    "Averaging",
    "CfaMethod",
    "CfolMethod",
    "ClassifierSpec",
    "DafaMethod",
    "Divergence",
    "FaalMethod",
    "FabSpec",
    "FinetuneSpec",
    "FrlMethod",
    "MethodSpec",
    "PgdSpec",
    "Spec",
    "SquareSpec",
    "TrainingAttack",
    "TrainingSpec",
    "UniformMethod",
    "WatMethod",
    "WeightPerturbation",
]
