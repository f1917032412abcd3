"""The body of a request for a study: a fine-tuning with several methods and seeds in place of one."""

from itertools import product
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.config import JsonDict

from api.schemas.requests import JobRequest, Name
from faal_core.specs import AuditSettings, FinetuneSpec, MethodSpec, TrainingSpec
from faal_core.specs.field_errors import explain
from faal_core.threat_model import ThreatModel
from jobs.studies import METADATA_KEY, MOST_JOBS, MOST_METHODS, MOST_SEEDS

_EXAMPLE: JsonDict = {
    "name": "FAAL and its rivals",
    "model": "model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b",
    "dataset": "fashion-mnist-subset",
    "threat": {"norm": "linf", "epsilon": "8/255"},
    "methods": [{"type": "faal"}, {"type": "uniform"}],
    "seeds": [0, 1, 2],
    "audit": {"attacks": "fast"},
}


class StudyRequest(JobRequest):
    """A study to create. Metadata, priority, pool and limits are those of each of its jobs."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    preset: Literal["paper"] | None = Field(
        None, description="preset of every fine-tuning, as in a fine-tuning's request"
    )
    threat: ThreatModel
    methods: Annotated[
        tuple[MethodSpec, ...],
        Field(min_length=1, max_length=MOST_METHODS, description="different methods to fine-tune the model by"),
    ]
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**31)], ...],
        Field(
            min_length=1,
            max_length=MOST_SEEDS,
            description=f"different seeds of the training. Each method has one job for each seed, and a study has at most "
            f"{MOST_JOBS} jobs.",
        ),
    ]
    training: TrainingSpec = Field(TrainingSpec(), description="training settings of every method, without the seed")
    audit: AuditSettings = Field(AuditSettings(), description="settings of both audits of every fine-tuning")

    @field_validator("training")
    @classmethod
    def _refuse_seed(cls, training: TrainingSpec) -> TrainingSpec:
        if "seed" in training.model_fields_set:
            raise ValueError("a study lists the seeds of the training in `seeds`; leave `seed` out")
        return training

    @field_validator("metadata")
    @classmethod
    def _refuse_own_key(cls, metadata: dict[str, str]) -> dict[str, str]:
        if METADATA_KEY in metadata:
            raise ValueError(f"the service sets the metadata {METADATA_KEY!r} of the jobs; choose another key")
        return metadata

    @field_validator("seeds")
    @classmethod
    def _require_different_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("the seeds are not all different; name each seed once")
        return seeds

    @model_validator(mode="after")
    def _check_jobs(self) -> Self:
        count = len(self.methods) * len(self.seeds)
        if count > MOST_JOBS:
            raise ValueError(
                f"{len(self.methods)} methods with {len(self.seeds)} seeds are {count} jobs, and a study has at most "
                f"{MOST_JOBS}; name fewer, or create several studies"
            )
        try:
            methods = [spec.method for spec in self.specs[:: len(self.seeds)]]
        except ValidationError as error:
            raise ValueError(explain(error.errors()[0])) from None
        if any(one in methods[:place] for place, one in enumerate(methods)):
            raise ValueError("the methods are not all different; name each method once")
        return self

    @property
    def specs(self) -> list[FinetuneSpec]:
        """Return the spec of each job: method by method, and for each method seed by seed."""
        return [
            FinetuneSpec(
                preset=self.preset,
                threat=self.threat,
                method=method,
                training=self.training.model_copy(update={"seed": seed}),
                audit=self.audit,
            )
            for method, seed in product(self.methods, self.seeds)
        ]
