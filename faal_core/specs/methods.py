"""Define the specs of the training methods: how each weights the classes, with the defaults of its paper."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from faal_core.specs.class_names import MAX_NAME_LENGTH
from faal_core.specs.spec import Spec

TrainingLoss = Annotated[
    Literal["at", "trades", "mart"],
    Field(
        description="Training loss. at: cross-entropy on adversarial images (Madry et al. 2018). trades: "
        "cross-entropy on clean images plus β times the divergence of the adversarial outputs (Zhang et al. 2019). "
        "mart: Wang et al. 2020."
    ),
]
Beta = Annotated[
    float, Field(ge=0, le=1000, description="β, the weight of the divergence in the losses trades and mart.")
]
ClassOffsets = Annotated[
    bool,
    Field(
        description="Whether to begin with class offsets: one constant per class, added to its logit, that makes the "
        "worst class most robust at little cost of the mean. Needs validation images and a bound."
    ),
]
Divergence = Literal["kl-u-p", "kl-p-u", "chi-squared"]


class AnyMethod(Spec):
    """Holds the field that all methods have."""

    head_part: ClassVar[Literal["rows", "bias"] | None] = None
    """Part of the last linear layer without which the method cannot work."""

    type: str


class CellMethod(AnyMethod):
    """Holds the fields that all methods have whose cells can be pairs of class and group."""

    groups: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="Column of groups in the training and test images. If set, class × group cells take the place of the "
        "classes in the class weights, the class offsets, the bounds and the choice of the weights.",
    )
    min_cell_images: int = Field(
        100,
        ge=2,
        le=1_000_000,
        description="Smallest number of training images in a cell, validation images included. Smaller cells of a class are "
        "joined. Only used with `groups`.",
    )

    @property
    def _cells_text(self) -> str:
        return "" if self.groups is None else f", cells by {self.groups!r}"


class HeadMethod(CellMethod):
    """Configures class offsets alone: a constant per class, added to its logit. No training."""

    head_part = "bias"

    type: Literal["head"] = "head"

    def __str__(self) -> str:
        return f"Head (class offsets{self._cells_text})"


class HwnwbMethod(CellMethod):
    """Configures equal norms of the last layer's rows, one row per class (HWNwB, submitted to ICLR 2026). No training."""

    head_part = "rows"

    type: Literal["hwnwb"] = "hwnwb"

    def __str__(self) -> str:
        return f"HWNwB (equal row norms{self._cells_text})"


class TrainingMethod(AnyMethod):
    """Holds the fields that all methods have that train."""

    loss: TrainingLoss
    beta: Beta
    class_offsets: ClassOffsets = False

    def __str__(self) -> str:
        return f"{self.type.upper()} ({self.loss})"


class UniformMethod(TrainingMethod):
    """Configures plain adversarial training: all classes have the same weight."""

    type: Literal["uniform"] = "uniform"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0


class FaalMethod(CellMethod, TrainingMethod):
    """Configures Fairness-Aware Adversarial Learning (Zhang et al., CVPR 2024): the worst class distribution of each batch."""

    type: Literal["faal"] = "faal"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0
    class_offsets: ClassOffsets = True
    dro_radius: float = Field(
        0.2,
        ge=0,
        le=50,
        description="DRO radius r: the largest divergence of the class distribution p from uniform u. 0 keeps uniform "
        "weights; 0.5 is the published value.",
    )
    divergence: Divergence = Field(
        "kl-u-p",
        description="Divergence that the DRO radius bounds: KL(u‖p) in nats (published), KL(p‖u) in nats, or χ²(p‖u).",
    )
    objective: Literal["class-risk", "batch-count"] = Field(
        "class-risk",
        description="Coefficients of the inner problem: the mean margin per class, or its sum over the batch.",
    )

    def __str__(self) -> str:
        return f"FAAL ({self.loss}, DRO radius r = {self.dro_radius:g}{self._cells_text})"


class FrlMethod(TrainingMethod):
    """Configures Fair Robust Learning (Xu et al., ICML 2021): penalties grow with a class's clean and boundary errors."""

    type: Literal["frl"] = "frl"
    loss: Literal["trades"] = "trades"
    beta: Beta = 1.5
    tolerance: float = Field(0.1, ge=0, le=1, description="δ, the amount by which a class's error may exceed the mean.")
    clean_rate: float = Field(
        0.05, ge=0, le=10, description="Learning rate of the penalties of clean errors, per epoch."
    )
    boundary_rate: float = Field(
        0.1, ge=0, le=10, description="Learning rate of the penalties of boundary errors, per epoch."
    )
    most: float = Field(
        0.5, gt=0, le=10, description="Largest sum of the penalties of one kind; a larger sum is scaled back."
    )
    remargin_rate: float = Field(
        0, ge=0, le=10, description="Learning rate of the radii, per epoch; 0 keeps all radii equal; 0.2 in the paper."
    )


class CfaMethod(TrainingMethod):
    """Configures class-wise calibrated fair adversarial training (Wei et al., CVPR 2023): a radius and a β per class."""

    type: Literal["cfa"] = "cfa"
    loss: Literal["at", "trades"] = "at"
    beta: Beta = 6.0
    base_radius: float | None = Field(
        None,
        ge=0,
        le=10,
        description="λ1: a class's radius in multiples of ε is λ1 plus its robust accuracy. The default is 0.5 for "
        "at, 0.3 for trades.",
    )
    base_beta: float = Field(
        0.5, ge=0, le=10, description="λ2: a class's β in multiples of `beta` is λ2 plus its robust accuracy."
    )


class WatMethod(TrainingMethod):
    """Configures worst-class adversarial training (Li and Liu, AAAI 2023): Hedge over the classes and their mean."""

    type: Literal["wat"] = "wat"
    loss: Literal["trades"] = "trades"
    beta: Beta = 6.0
    rate: float = Field(0.1, ge=0, le=100, description="η, the learning rate of Hedge, per epoch.")


class DafaMethod(TrainingMethod):
    """Configures distance-aware fair adversarial training (Lee et al., ICLR 2024).

    Hard classes take weight and radius from similar, easier classes.
    """

    type: Literal["dafa"] = "dafa"
    loss: Literal["at", "trades"] = "trades"
    beta: Beta = 6.0
    strength: float = Field(
        1.0, ge=0, le=100, description="λ, the strength of the transfer of weight and radius between classes."
    )
    warmup_epochs: int = Field(
        0,
        ge=0,
        description="Number of epochs of uniform training before class similarities are measured; 70 of 110 in the "
        "paper, from scratch.",
    )


class CfolMethod(TrainingMethod):
    """Configures class-focused online learning (Pethick et al., TMLR 2023): EXP3 draws classes by how often they fail."""

    type: Literal["cfol"] = "cfol"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0
    exploration: float = Field(
        0.5, gt=0, le=1, description="γ, the fraction of images drawn uniformly over the classes."
    )
    rate: float = Field(5e-6, ge=0, le=1, description="η, the learning rate of EXP3, per image.")


class FsrMethod(TrainingMethod):
    """Configures fairness spectral regularisation (Jin et al., ICLR 2025, arXiv 2501.13273).

    λ times the spectral norm of the matrix of robust confusions is added to the loss of each batch. Row c of the matrix has the
    fractions of class c's images that are predicted as each other class under attack. Probabilities take the place of predictions
    in its gradient. As in the paper, the base loss is TRADES, and two epochs follow an adversarial training.
    Differs: the published code counts confusions once per epoch over all training images, and weighs an adversarial
    cross-entropy by the derivative of their norm. So λ is on another scale. Its default comes from validation images of the
    bundled classifier.
    """

    type: Literal["fsr"] = "fsr"
    loss: TrainingLoss = "trades"
    beta: Beta = 6.0
    strength: float = Field(
        3.0, ge=0, le=1000, description="λ, the weight of the spectral norm of the robust confusions in the loss."
    )


class DecoSamMethod(TrainingMethod):
    """Configures DecoSAM (submission to ICLR 2026): sharpness-aware steps (SAM) on the weights of the last linear layer alone.

    The other weights, the bias and batch-norm's statistics are frozen. The gradient of a step is computed after moving each
    row to where the adversarial cross-entropy of its class's images is greater, by a radius that is larger for rows of smaller
    norm. The paper trains for one epoch: set `learning_rates` to a single rate, such as 0.01.
    Differs: τ, the base loss, the learning rates and the images that move a row were not available. The images and the default
    of τ come from validation images of the bundled classifier.
    """

    head_part = "rows"

    type: Literal["decosam"] = "decosam"
    loss: TrainingLoss = "at"
    beta: Beta = 6.0
    tau: float = Field(
        3.0,
        ge=0,
        le=1000,
        description="τ: the radii of the rows are the softmax of −τ times the rows' norms. 0 gives all rows the same radius.",
    )

    def __str__(self) -> str:
        return f"DecoSAM ({self.loss}, τ = {self.tau:g})"


def _default_to_faal(value: object) -> object:
    return {"type": "faal", **value} if isinstance(value, dict) else value


MethodSpec = Annotated[
    FaalMethod
    | HeadMethod
    | UniformMethod
    | FrlMethod
    | CfaMethod
    | WatMethod
    | DafaMethod
    | CfolMethod
    | FsrMethod
    | DecoSamMethod
    | HwnwbMethod,
    Field(discriminator="type"),
    BeforeValidator(_default_to_faal),
]
METHODS = (
    FaalMethod,
    HeadMethod,
    UniformMethod,
    FrlMethod,
    CfaMethod,
    WatMethod,
    DafaMethod,
    CfolMethod,
    FsrMethod,
    DecoSamMethod,
    HwnwbMethod,
)
