"""One step of training: attack the batch, weigh its classes, step along the gradient of the weighted loss."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from faal_core.classifier import Classifier, Images, Labels, Logits
from faal_core.training import losses
from faal_core.training.batch_statistics import restored_statistics, restored_statistics_on_error
from faal_core.training.divergence import require_finite
from faal_core.training.inner_maximum import AttackBatch, perturb
from faal_core.training.losses import Terms
from faal_core.training.methods.method import ClassWeights, Method
from faal_core.training.run import TrainingRun
from faal_core.training.weight_perturbation import perturbed_weights


class StepResult(NamedTuple):
    """The weighted loss of a step, and the factor of each cell's classification loss, one a cell, on the CPU."""

    loss: float
    class_weights: Tensor


def training_step(
    classifier: Classifier, optimizer: Optimizer, method: Method, batch: AttackBatch, run: TrainingRun
) -> StepResult:
    """Take one step on one batch.

    The attack sees the classifier in eval mode. In train mode the clean batch goes first, for batch-norm's statistics. A method
    that trains the last layer alone makes its steps in eval mode.

    Args:
        batch: the whole batch, the same in every rank. Where it does not fit into memory it is passed in pieces. That costs one
            more forward pass, which yields the class weights; gradients add up to the same, except that batch-norm then goes by
            each piece's statistics.
    Raises: TrainingDiverged where logits or the loss are not finite; OutOfMemory.
    """
    shard = _BatchShard(classifier, method, batch.subset(run.ranks.shard(len(batch.x))), batch.y, batch.cells, run)
    return run.pieces.fit(partial(shard.step, optimizer), len(shard.batch.x))


class _Images(NamedTuple):
    """Clean images, their perturbed counterparts, their labels, and their cells."""

    x: Images
    x_adv: Images
    y: Labels
    cells: Tensor


@dataclass(frozen=True, slots=True)
class _BatchShard:
    """A rank's part of a batch, and the step on it.

    Args:
        batch: the images of this rank.
        labels, cells: of the whole batch, over all ranks.
    """

    classifier: Classifier
    method: Method
    batch: AttackBatch
    labels: Tensor
    cells: Tensor
    run: TrainingRun

    def step(self, optimizer: Optimizer, size: int) -> StepResult:
        """Take the step, `size` images at a time.

        Where memory runs out, weights are as before up to rounding, and batch-norm's statistics exactly.
        """
        with restored_statistics_on_error(self.classifier):
            images = self._attack(size)
            self.classifier.train(self.method.trains_features)
            with self._perturbed_weights(images, size):
                clean_forward = self.run.training.clean_forward and self.method.trains_features
                forward = self._forward(images, size, clean_forward=clean_forward)
                logits = self._batch_logits(forward.logits)
                class_weights = self.method.cell_weights(logits, self.labels, self.cells)
                optimizer.zero_grad()
                loss = self._backward(self._losses(forward, class_weights))
                optimizer.step()
            self.run.ranks.average_batch_norm(self.classifier)
            self.method.observe(logits, self.labels)
            return StepResult(loss, class_weights.classification.cpu())

    def _attack(self, size: int) -> _Images:
        """Perturb the images, in eval mode."""
        self.classifier.eval()
        with self.run.ranks.fail_together():
            x_adv = perturb(self.classifier, self.batch, self.run.spec, size)
        return _Images(self.batch.x, x_adv, self.batch.y, self.batch.cells)

    def _perturbed_weights(self, images: _Images, size: int) -> AbstractContextManager[None]:
        """Return a context that perturbs the weights for this batch, where the spec or the method asks for it."""
        spec = self.run.training.weight_perturbation
        perturb_weight = self.method.choose_perturbation(spec)
        if perturb_weight is None:
            return nullcontext()
        proxy = partial(self._proxy_losses, images, size, weighted=spec is not None and spec.weighted)
        return perturbed_weights(self.classifier, perturb_weight, proxy, self.run.ranks)

    def _proxy_losses(self, images: _Images, size: int, *, weighted: bool) -> Iterator[Tensor]:
        """Return the losses whose gradient perturbs the weights."""
        forward = self._forward(images, size, clean_forward=False)
        logits, weights = self._batch_logits(forward.logits), self.method.equal_weights
        if weighted:
            weights = self.method.cell_weights(logits, self.labels, self.cells)
        for terms, cells in forward.terms():
            yield self.method.proxy_loss(terms, cells, weights).sum() / len(self.labels)

    def _forward(self, images: _Images, size: int, *, clean_forward: bool) -> "_WholePass | _PiecewisePass":
        """Forward the images at once where `size` allows, otherwise in pieces."""
        with self.run.ranks.fail_together():
            if size >= len(images.x):
                return _WholePass(self, images, clean_forward=clean_forward)
            return _PiecewisePass(self, images, size, clean_forward=clean_forward)

    def _batch_logits(self, logits: Logits) -> Logits:
        """Gather the adversarial logits of the whole batch. Raises: TrainingDiverged where they are not finite."""
        gathered = self.run.ranks.gather(logits, len(self.labels))
        require_finite(gathered, "network's logits")
        return gathered

    def _losses(self, forward: "_WholePass | _PiecewisePass", class_weights: ClassWeights) -> Iterator[Tensor]:
        """Yield the weighted loss of each piece; over all pieces and ranks they sum to the mean over the whole batch."""
        for terms, cells in forward.terms():
            yield class_weights.weigh(terms, cells).sum() / len(self.labels)

    def _backward(self, piece_losses: Iterator[Tensor]) -> float:
        """Sum losses and their gradients over pieces and ranks, and return the loss."""
        total = torch.zeros((), device=self.run.device)
        with self.run.ranks.fail_together():
            for loss in piece_losses:
                loss.backward()
                total += loss.detach()
        require_finite(self.run.ranks.sum(total), "loss")
        gradients = [parameter.grad for parameter in self.classifier.parameters()]
        self.run.ranks.sum_each(gradient for gradient in gradients if gradient is not None)
        return total.item()

    def terms(self, images: _Images, *, clean_forward: bool) -> Terms:
        """Forward some images, and return the terms of their loss."""
        with self.run.autocast():
            return losses.terms(
                self.classifier,
                images.x,
                images.x_adv,
                images.y,
                self.run.spec.loss,
                clean_forward=clean_forward,
            )


class _WholePass:
    """A shard that fits into memory: one forward pass yields both its logits and the terms of its loss."""

    def __init__(self, shard: _BatchShard, images: _Images, *, clean_forward: bool) -> None:
        self._terms, self._cells = shard.terms(images, clean_forward=clean_forward), images.cells
        self.logits = self._terms.adversarial_logits.detach()

    def terms(self) -> Iterator[tuple[Terms, Tensor]]:
        """Yield the terms of all images, and their cells."""
        yield self._terms, self._cells


class _PiecewisePass:
    """A shard in pieces: a first pass without gradients yields its logits, a second one the terms of piece after piece.

    So the graph of one piece is in memory at a time. Pieces are as even as they can be: batch-norm needs more than one image.
    """

    def __init__(self, shard: _BatchShard, images: _Images, size: int, *, clean_forward: bool) -> None:
        count = -(-len(images.x) // size)
        self._shard, self._clean_forward = shard, clean_forward
        self._pieces = list(map(_Images, *(part.tensor_split(count) for part in images)))
        with torch.no_grad(), restored_statistics(shard.classifier):
            terms = [shard.terms(piece, clean_forward=False) for piece in self._pieces]
        self.logits = torch.cat([piece.adversarial_logits for piece in terms])

    def terms(self) -> Iterator[tuple[Terms, Tensor]]:
        """Yield the terms of each piece, computed when they are asked for, and its cells."""
        for piece in self._pieces:
            yield self._shard.terms(piece, clean_forward=self._clean_forward), piece.cells
