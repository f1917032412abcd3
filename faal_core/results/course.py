"""Follow the stages of a fine-tuning, each weighed by its estimated passes, to estimate the finished fraction of the whole."""

from faal_core.results import cost
from faal_core.specs import FinetuneSpec


class FinetuneCourse:
    """Turns the stages that a fine-tuning reports into the finished fraction of the whole.

    Args:
        spec: what the fine-tuning was asked.
        training_images: the validation images included.
        test_images: the images of the data set, of which the audits use as many as the spec says.
        num_classes: of the classifier.
    """

    def __init__(self, spec: FinetuneSpec, training_images: int, test_images: int, num_classes: int) -> None:
        self._judging = cost.count_judging_passes(spec, training_images, num_classes)
        surrounding = cost.count_surrounding_passes(spec, training_images, num_classes)
        training = cost.training_cost(spec, training_images, num_classes).likely - sum(surrounding)
        audited = min(test_images, spec.audit.images or test_images)
        attacks = {str(attack): audited * attack.passes(num_classes) for attack in spec.audit.attacks}
        audit = {"clean": audited, **attacks}
        self._spans: dict[str, tuple[float, float]] = {}
        self._judged: list[tuple[float, float]] = []
        self._end = 0.0
        self._add({f"before: {name}": passes for name, passes in audit.items()})
        self._add({"class offsets": surrounding.search})
        self._add_judging(surrounding.starts)
        self._add({f"epoch {number + 1} of {spec.epochs}": training / spec.epochs for number in range(spec.epochs)})
        self._add_judging(surrounding.ending)
        self._add({f"after: {name}": passes for name, passes in audit.items()})
        self._start, self._passes, self._reached = 0.0, 0.0, 0.0

    def _add(self, stages: dict[str, float]) -> None:
        for name, passes in stages.items():
            self._spans[name] = (self._end, passes)
            self._end += passes

    def _add_judging(self, passes: float) -> None:
        """Add passes that judge weights, again and again in stages of the same names."""
        self._judged.append((self._end, self._end + passes))
        self._end += passes

    def begin(self, stage: str) -> None:
        """Begin a stage, by the name under which the fine-tuning reports it; an unknown one counts as no work."""
        if stage in self._spans:
            self._start, self._passes = self._spans[stage]
            return
        self._start, self._passes = self._start + self._passes, 0.0
        if stage == "validation: clean":
            left = (end - self._start for start, end in self._judged if start <= self._start < end)
            self._passes = min(self._judging, next(left, 0.0))

    def fraction(self, stage_fraction: float) -> float:
        """Return the finished fraction of the whole, given that of the present stage; it never falls."""
        place = (self._start + self._passes * min(stage_fraction, 1.0)) / self._end
        self._reached = max(self._reached, place)
        return self._reached
