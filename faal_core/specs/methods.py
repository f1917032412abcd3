"""The methods a classifier can be trained by: how each makes classes count, with the defaults of its paper."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from faal_core.specs.spec import Spec

TrainingLoss = Annotated[
    Literal["at", "trades", "mart"],
    Field(
        description="at: the cross-entropy on adversarial images (Madry et al. 2018); trades: the cross-entropy on clean ones "
        "and β times the divergence of the adversarial (Zhang et al. 2019); mart: Wang et al. 2020"
    ),
]
Beta = Annotated[float, Field(ge=0, le=1000, description="β, the share of the divergence in trades and mart")]
ClassOffsets = Annotated[
    bool,
    Field(
        description="begin with the constant a class, added to its logit, that makes the worst class most robust at little cost "
        "of the mean, where images are held out and a bound is set"
    ),
]
Divergence = Literal["kl-u-p", "kl-p-u", "chi-squared"]


class AnyMethod(Spec):
    """What all methods have."""

    type: str
    loss: TrainingLoss
    beta: Beta
    class_offsets: ClassOffsets = False

    def __str__(self) -> str:
        return f"{self.type.upper()} ({self.loss})"


class UniformMethod(AnyMethod):
    """Plain adversarial training: all classes count alike."""

    type: Literal["uniform"] = "uniform"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0


class FaalMethod(AnyMethod):
    """Fairness-Aware Adversarial Learning (Zhang et al., CVPR 2024): the worst class distribution of each batch."""

    type: Literal["faal"] = "faal"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0
    class_offsets: ClassOffsets = True
    dro_radius: float = Field(
        0.2,
        ge=0,
        le=50,
        description="how far p may go from uniform u; 0 keeps uniform weights; 0.5 is the published one",
    )
    divergence: Divergence = Field(
        "kl-u-p", description="which distance is bounded: KL(u‖p) in nats (published), KL(p‖u) in nats, or χ²(p‖u)"
    )
    objective: Literal["class-risk", "batch-count"] = Field(
        "class-risk", description="coefficients of the inner problem: mean margin per class, or its sum over the batch"
    )

    def __str__(self) -> str:
        return f"FAAL ({self.loss}, DRO radius r = {self.dro_radius:g})"


class FrlMethod(AnyMethod):
    """Fair Robust Learning (Xu et al., ICML 2021): penalties grow with what a class misses, clean and at the boundary."""

    type: Literal["frl"] = "frl"
    loss: Literal["trades"] = "trades"
    beta: Beta = 1.5
    tolerance: float = Field(0.1, ge=0, le=1, description="δ: by this much a class's error may exceed the mean")
    clean_rate: float = Field(0.05, ge=0, le=10, description="of the penalties of clean errors, an epoch")
    boundary_rate: float = Field(0.1, ge=0, le=10, description="of the penalties of boundary errors, an epoch")
    most: float = Field(0.5, gt=0, le=10, description="the sum of each kind of penalty is scaled back to this")
    remargin_rate: float = Field(
        0, ge=0, le=10, description="of the radii, an epoch; 0 keeps them alike, 0.2 in the paper"
    )


class CfaMethod(AnyMethod):
    """Class-wise calibrated fair adversarial training (Wei et al., CVPR 2023): each class its radius and its β."""

    type: Literal["cfa"] = "cfa"
    loss: Literal["at", "trades"] = "at"
    beta: Beta = 6.0
    base_radius: float | None = Field(
        None,
        ge=0,
        le=10,
        description="λ1: a class's radius is this plus its robust accuracy, in ε; 0.5 for at, 0.3 for trades",
    )
    base_beta: float = Field(0.5, ge=0, le=10, description="λ2: likewise for β")


class WatMethod(AnyMethod):
    """Worst-class adversarial training (Li and Liu, AAAI 2023): Hedge over the classes and their mean."""

    type: Literal["wat"] = "wat"
    loss: Literal["trades"] = "trades"
    beta: Beta = 6.0
    rate: float = Field(0.1, ge=0, le=100, description="η of Hedge, an epoch")


class DafaMethod(AnyMethod):
    """Distance-aware fair adversarial training (Lee et al., ICLR 2024): weight and radius taken from similar, easier classes."""

    type: Literal["dafa"] = "dafa"
    loss: Literal["at", "trades"] = "trades"
    beta: Beta = 6.0
    strength: float = Field(1.0, ge=0, le=100, description="λ")
    warmup_epochs: int = Field(
        0,
        ge=0,
        description="of uniform training, before similarities are measured; 70 of 110 in the paper, from scratch",
    )


class CfolMethod(AnyMethod):
    """Class-focused online learning (Pethick et al., TMLR 2023): EXP3 draws classes by how often they fail."""

    type: Literal["cfol"] = "cfol"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0
    exploration: float = Field(0.5, gt=0, le=1, description="γ: share of images drawn uniformly over classes")
    rate: float = Field(5e-6, ge=0, le=1, description="η of EXP3, an image")


def _faal_unless_told(value: object) -> object:
    return {"type": "faal", **value} if isinstance(value, dict) else value


MethodSpec = Annotated[
    FaalMethod | UniformMethod | FrlMethod | CfaMethod | WatMethod | DafaMethod | CfolMethod,
    Field(discriminator="type"),
    BeforeValidator(_faal_unless_told),
]
METHODS = (FaalMethod, UniformMethod, FrlMethod, CfaMethod, WatMethod, DafaMethod, CfolMethod)
