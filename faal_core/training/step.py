"""One step of training: attack the batch, weigh its classes, move the weights."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from faal_core.classifier import Classifier, Images, Labels, Logits
from faal_core.device_memory import Pieces
from faal_core.errors import TrainingDiverged
from faal_core.specs import FinetuneSpec, TrainingSpec
from faal_core.training import losses
from faal_core.training.batch_statistics import statistics_kept, statistics_restored
from faal_core.training.inner_maximum import starting_points, worst_images
from faal_core.training.losses import Terms
from faal_core.training.methods.method import Emphasis, Method
from faal_core.training.ranks import ALONE, Ranks
from faal_core.training.weight_perturbation import perturbed_weights


def training_step(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    method: Method,
    x: Images,
    y: Labels,
    spec: FinetuneSpec,
    generator: torch.Generator,
    pieces: Pieces,
    ranks: Ranks = ALONE,
) -> tuple[float, Tensor]:
    """One step on one batch; its weighted loss and the weight of each class's classification (on the CPU).

    The attack sees the classifier in eval mode. In train mode the clean batch goes first, for batch-norm's statistics.

    Args:
        x, y: the whole batch, the same in every process.
        pieces: how many images there was room for so far. A batch passed in several pieces costs one more forward pass, which
            finds the weights of its classes; gradients add up to the same, unless batch-norm, which then goes by each piece's
            statistics, makes a difference.
    Raises: TrainingDiverged where the loss is not finite; OutOfMemory.
    """
    start = starting_points(x, spec.threat, spec.attack_loss, generator, method.reach[y])
    own = ranks.share(len(x))
    share = _Share(classifier, method, x[own], y[own], start[own], y, spec, ranks)

    def step(size: int) -> tuple[float, Tensor]:
        with statistics_restored(classifier):
            return share.step(optimizer, size)

    return pieces.fit(step, len(share.x))


@dataclass(frozen=True, slots=True)
class _Share:
    """What a process has of a batch; `labels` are the whole batch's."""

    classifier: Classifier
    method: Method
    x: Images
    y: Labels
    start: Images
    labels: Labels
    spec: FinetuneSpec
    ranks: Ranks

    def step(self, optimizer: torch.optim.Optimizer, size: int) -> tuple[float, Tensor]:
        """The step, `size` images at a time. Where there is no room for it, the weights are as they were, to rounding."""
        with self.ranks.agreed():
            x_adv = self._attacked(size)
        self.classifier.train()
        with self._worse_weights(x_adv, size):
            logits, parts = self._answered(x_adv, size, clean_forward=self.spec.training.clean_forward)
            emphasis = self.method.emphasis(logits, self.labels)
            optimizer.zero_grad()
            total = torch.zeros((), device=logits.device)
            with self.ranks.agreed():
                for loss in self._losses(emphasis, parts):
                    loss.backward()
                    total += loss.detach()
            if not bool(self.ranks.sum(total).isfinite()):
                raise diverged("loss became NaN or infinite")
            gradients = [parameter.grad for parameter in self.classifier.parameters()]
            self.ranks.sum_each(gradient for gradient in gradients if gradient is not None)
            optimizer.step()
        self.ranks.level(self.classifier)
        self.method.note(logits, self.labels)
        return total.item(), emphasis.classification.cpu()

    def _attacked(self, size: int) -> Images:
        """The worst images that PGD finds."""
        training, loss, reach = self.spec.training, self.spec.attack_loss, self.method.reach[self.y]
        self.classifier.eval()
        with precision(self.classifier, training):
            return worst_images(
                self.classifier, self.x, self.y, self.spec.threat, training.attack, loss, self.start, reach, size
            )

    def _parts(self, x_adv: Images, size: int, *, clean_forward: bool) -> Iterator[tuple[Terms, Labels]]:
        """Terms and labels of `size` images at a time."""
        count = max(-(-len(self.x) // size), 1)  # as even as they can be: batch-norm needs more than one image
        parts = (images.tensor_split(count) for images in (self.x, x_adv, self.y))
        for x, worst, y in zip(*parts, strict=True):
            with precision(self.classifier, self.spec.training):
                terms = losses.terms(self.classifier, x, worst, y, self.spec.method.loss, clean_forward=clean_forward)
            yield terms, y

    def _answered(
        self, x_adv: Images, size: int, *, clean_forward: bool
    ) -> tuple[Logits, Iterable[tuple[Terms, Labels]]]:
        """The adversarial logits of the whole batch; and the parts, computed when asked for where they are several.

        Raises: TrainingDiverged where the logits are not finite, before a method is asked to weigh classes by them.
        """
        parts: Iterable[tuple[Terms, Labels]] = self._parts(x_adv, size, clean_forward=clean_forward)
        with self.ranks.agreed():
            if size >= len(self.x):
                parts = list(parts)
                found = [terms.adversarial_logits.detach() for terms, _ in parts]
            else:
                with torch.no_grad(), statistics_kept(self.classifier):
                    found = [terms.adversarial_logits for terms, _ in self._parts(x_adv, size, clean_forward=False)]
        logits = self.ranks.whole(torch.cat(found), len(self.labels))
        if not bool(logits.isfinite().all()):
            raise diverged("network's logits became NaN or infinite")
        return logits, parts

    def _losses(self, emphasis: Emphasis, parts: Iterable[tuple[Terms, Labels]]) -> Iterator[Tensor]:
        """The loss of each part: over all parts and processes they sum to the mean of the whole batch."""
        for terms, y in parts:
            yield emphasis.weigh(terms, y).sum() / len(self.labels)

    def _worse_weights(self, x_adv: Images, size: int) -> AbstractContextManager[None]:
        """Within, the weights perturbed for this batch as the spec says, if it does."""
        perturbation = self.spec.training.weight_perturbation
        if perturbation is None:
            return nullcontext()

        def proxy() -> Iterator[Tensor]:
            logits, parts = self._answered(x_adv, size, clean_forward=False)
            emphasis = self.method.emphasis(logits, self.labels) if perturbation.weighted else self.method.alike
            return self._losses(emphasis, parts)

        return perturbed_weights(self.classifier, perturbation.gamma, proxy, self.ranks)


def precision(classifier: Classifier, training: TrainingSpec) -> torch.autocast:
    """Within, what gains from it is computed in the spec's precision; `Classifier` answers in float32 all the same."""
    return torch.autocast(
        classifier.device.type, dtype=torch.bfloat16, enabled=training.precision == "bfloat16", cache_enabled=False
    )


def diverged(what: str) -> TrainingDiverged:
    """The error that ends a training whose numbers are lost."""
    return TrainingDiverged(f"The {what}; try a smaller learning rate. No weights were kept.")
