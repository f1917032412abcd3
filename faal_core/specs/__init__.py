"""Define the requests that users make: classifiers, attacks, audits, fine-tunings and gates, as JSON with bounds and defaults.

Every number that a result depends on is a field here and is stored with the report. docs/explanation/faal.md gives the sources of
the defaults.
"""

from faal_core.specs.attacks import ApgdSpec, AttackSpec, FabSpec, PgdSpec, SourceNetwork, SquareSpec, TransferSpec
from faal_core.specs.audit import AuditSettings, AuditSpec, SequentialLimits
from faal_core.specs.classifier import ClassifierDescription, ClassifierSpec
from faal_core.specs.escalation import Escalation, EscalationStep
from faal_core.specs.methods import (
    METHODS,
    CellMethod,
    CfaMethod,
    CfolMethod,
    DafaMethod,
    DecoSamMethod,
    Divergence,
    FaalMethod,
    FrlMethod,
    FsrMethod,
    HeadMethod,
    HwnwbMethod,
    MethodSpec,
    TrainingMethod,
    UniformMethod,
    WatMethod,
)
from faal_core.specs.policy import BaselineLimit, Policy, Scope
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
    "BaselineLimit",
    "CellMethod",
    "CfaMethod",
    "CfolMethod",
    "ClassifierDescription",
    "ClassifierSpec",
    "DafaMethod",
    "DecoSamMethod",
    "Divergence",
    "Escalation",
    "EscalationStep",
    "FaalMethod",
    "FabSpec",
    "FinetuneSpec",
    "FrlMethod",
    "FsrMethod",
    "HeadMethod",
    "HwnwbMethod",
    "MethodSpec",
    "PgdSpec",
    "Policy",
    "Scope",
    "SequentialLimits",
    "SourceNetwork",
    "Spec",
    "SquareSpec",
    "TrainingAttack",
    "TrainingMethod",
    "TrainingSpec",
    "TransferSpec",
    "UniformMethod",
    "WatMethod",
    "WeightPerturbation",
]
