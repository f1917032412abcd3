"""Compare changes of a network's last layer that make its worst class more robust, without training its features.

    python -m benchmarks.head_changes [--out FILE] [--quick] [--base WEIGHTS] [--dataset NAME] [--root ROOT] [--epsilon E]
                                      [--draws N] [--only NAME]… [--threads N]

Each draw has images of its own from the training part, in three sets: on the first a change is found, the second validates four
scales of it, and the third judges the best one within a point of the mean, clean and robust. No test image is read: the base
may have been trained on all of these images, and its rates are then higher than on new ones. `CHANGES` names the changes. A
search finds each on features at adversarial points of the first images (PGD-10 down the margin over each of four classes), by
Adam on the soft rates: mean + λ · worst class, for many λ, of which the one with the most robust worst class within half a
point of the mean is taken. `attacked again` adds the points of a second attack, on the changed network, and searches again.
FILE gets a JSON line for each change and draw, and the same command resumes after them. The last line is one JSON object: for
each change the means over the draws, and by how much its worst class exceeds that of `offsets`, with the standard error of the
mean over these draws, all of one base.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import faal_core  # noqa: F401 - before torch, whose threads then spin briefly  # isort: skip
import torch
from torch import Tensor, nn

from benchmarks.result_rows import ResultRows
from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import select_logit
from faal_core.auditing.evaluator import freeze_weights
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.specs import AuditSpec
from faal_core.specs.training import CHANGE_SCALES, OFFSET_TARGETS
from faal_core.threat_model import ThreatModel
from faal_core.training.head import equal_norm_scales, output_layer
from faal_core.weights import digest, read_classifier

CPU = torch.device("cpu")
BOUND = 0.01
STEPS = 10
STRENGTHS = [0.02 * 1.6**i for i in range(11)]  # λ


class Points(NamedTuple):
    """Features at adversarial points, `n p d`, the class towards which each was attacked, `n p`, and labels, `n`."""

    features: Tensor
    targets: Tensor
    y: Tensor

    def join(self, other: "Points") -> "Points":
        """Return the points of both attacks on the same images."""
        return Points(
            torch.cat([self.features, other.features], 1), torch.cat([self.targets, other.targets], 1), self.y
        )


class Parts(NamedTuple):
    """A change of the layer: summands of the bias, `k`, logarithms of factors of its rows, `k`, summands of these, `k d`."""

    offsets: Tensor
    log_scales: Tensor
    rows: Tensor

    def scale(self, scale: float) -> "Parts":
        """Return that fraction of the change."""
        return Parts(*(scale * part for part in self))

    def weights(self, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return rows and bias of the changed layer, float64."""
        rows = layer.weight.detach().double() * self.log_scales.exp().unsqueeze(1) + self.rows
        return rows, layer.bias.detach().double() + self.offsets


class Change(NamedTuple):
    """Which parts of the layer a search changes, and whether the changed network is attacked again."""

    parts: tuple[str, ...]
    attacks_again: bool = False
    equal_norms: bool = False


CHANGES = {
    "offsets": Change(("offsets",)),
    "equal norms (HWNwB)": Change((), equal_norms=True),
    "equal norms, then offsets": Change(("offsets",), equal_norms=True),
    "row scales": Change(("log_scales",)),
    "row scales, attacked again": Change(("log_scales",), attacks_again=True),
    "offsets and row scales, attacked again": Change(("offsets", "log_scales"), attacks_again=True),
    "all weights, attacked again": Change(("offsets", "rows"), attacks_again=True),
}


def layer_of(classifier: Classifier) -> nn.Linear:
    """Return the last layer."""
    layer = output_layer(classifier)
    assert layer is not None
    return layer


def apply_change(classifier: Classifier, parts: Parts) -> Classifier:
    """Return a copy of the classifier with the change."""
    other = copy.deepcopy(classifier)
    rows, bias = parts.weights(layer_of(classifier))
    layer_of(other).load_state_dict({"weight": rows.float(), "bias": bias.float()})
    return other


def attack(classifier: Classifier, data: LabelledImages, threat: ThreatModel) -> Points:
    """Return the points where PGD from the image finds the least margin over each of the likeliest other classes."""
    pieces = [attack_piece(classifier, data, rows, threat) for rows in torch.arange(len(data)).split(128)]
    return Points(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def attack_piece(classifier: Classifier, data: LabelledImages, rows: Tensor, threat: ThreatModel) -> Points:
    """Return the points of some images."""
    inputs: list[Tensor] = []
    handle = layer_of(classifier).register_forward_hook(
        lambda _layer, values, _output: inputs.append(values[0].detach())
    )
    x, y = classifier.lay_out(data.pixels(rows, CPU)), data.labels[rows]
    ball, features_by_target = Ball(x, threat), []
    with freeze_weights(classifier):
        with torch.no_grad():
            targets = classifier(x).scatter(1, y.unsqueeze(1), -torch.inf).topk(OFFSET_TARGETS).indices
        for target in targets.T:
            x_adv, least, features = x, torch.full(y.shape, torch.inf), torch.zeros_like(inputs[0])
            for _ in range(STEPS + 1):
                x_adv = x_adv.detach().requires_grad_()
                logits = classifier(x_adv)
                margin = select_logit(logits, y) - select_logit(logits, target)
                features = torch.where((margin.detach() < least).unsqueeze(1), inputs[-1], features)
                least = torch.minimum(least, margin.detach())
                (gradient,) = torch.autograd.grad(margin.sum(), x_adv)
                x_adv = ball.step(x_adv, -gradient, 0.25 * ball.radius)
            features_by_target.append(features)
    handle.remove()
    return Points(torch.stack(features_by_target, 1), targets, y)


def least_margins(points: Points, rows: Tensor, bias: Tensor) -> Tensor:
    """Return the least margin of each image over its points, `n`, float64."""
    logits = points.features.double() @ rows.T + bias
    own = logits.gather(2, points.y.view(-1, 1, 1).expand(-1, logits.shape[1], 1)).squeeze(2)
    return (own - logits.gather(2, points.targets.unsqueeze(2)).squeeze(2)).amin(1)


def class_rates(values: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Return the mean of each class, `k`, float64."""
    sums = torch.zeros(num_classes, dtype=torch.float64).index_add(0, y, values.double())
    return sums / torch.bincount(y, minlength=num_classes)


def search(layer: nn.Linear, points: Points, start: Parts, names: tuple[str, ...]) -> Parts:
    """Return the change of these parts, beginning from `start`, with the most robust worst class within half the bound."""
    original = least_margins(points, *start.weights(layer))
    typical = float(original.abs().median())
    rates = class_rates(original > 0, points.y, layer.out_features)
    steps = {
        "offsets": 0.03 * typical,
        "log_scales": 0.01,
        "rows": 0.01 * float(layer.weight.detach().norm(dim=1).mean()) / layer.in_features**0.5,
    }
    best, least = start, float(rates.min())
    for strength in STRENGTHS:
        parts = Parts(*(part.clone().requires_grad_(name in names) for name, part in start._asdict().items()))
        optimizer = torch.optim.Adam([{"params": [getattr(parts, name)], "lr": steps[name]} for name in names])
        for step in range(100):
            softness = typical * 0.03 ** (step / 100)
            margins = least_margins(points, *parts.weights(layer))
            soft = class_rates(torch.sigmoid(margins / softness), points.y, layer.out_features)
            worst = -0.03 * torch.logsumexp(-soft / 0.03, 0)
            optimizer.zero_grad()
            (-(soft.mean() + strength * worst)).backward()
            optimizer.step()
        parts = Parts(*(part.detach() for part in parts))
        after = class_rates(least_margins(points, *parts.weights(layer)) > 0, points.y, layer.out_features)
        if float(after.mean()) >= float(rates.mean()) - BOUND / 2 and float(after.min()) > least:
            best, least = parts, float(after.min())
    return best


def find_change(classifier: Classifier, change: Change, make_points: Callable[[Classifier], Points]) -> Parts:
    """Return the change of the last layer, given the function that attacks a network on the images of the search."""
    layer = layer_of(classifier)
    zero = torch.zeros(layer.out_features, dtype=torch.float64)
    start = Parts(zero, zero, torch.zeros_like(layer.weight, dtype=torch.float64))
    if change.equal_norms:
        start = start._replace(log_scales=equal_norm_scales(layer.weight).double().log())
    if not change.parts:
        return start
    points = make_points(apply_change(classifier, start))
    parts = search(layer, points, start, change.parts)
    if change.attacks_again:
        points = points.join(make_points(apply_change(classifier, parts)))
        parts = search(layer, points, start, change.parts)
    return parts


def measure(classifier: Classifier, data: LabelledImages, spec: AuditSpec) -> dict[str, float]:
    """Return the accuracies: clean, mean and worst class under attack."""
    report = run_audit(classifier, data, spec, name="benchmark", device=CPU).report
    return {"clean": report.clean.mean.rate, "mean": report.robust.mean.rate, "worst": report.robust.worst.value}


def run(name: str, classifier: Classifier, parts: list[LabelledImages], spec: AuditSpec) -> dict[str, Any]:
    """Find the change on the first part, choose its scale on the second, judge it on the third."""
    search_images, validation_images, judged_images = parts
    start = time.monotonic()
    change = find_change(classifier, CHANGES[name], lambda one: attack(one, search_images, spec.threat))
    before = measure(classifier, validation_images, spec)
    best = (before["worst"], before["mean"], 0.0)
    for scale in CHANGE_SCALES:
        after = measure(apply_change(classifier, change.scale(scale)), validation_images, spec)
        if all(after[figure] >= before[figure] - BOUND for figure in ("clean", "mean")):
            best = max(best, (after["worst"], after["mean"], scale))
    seconds = time.monotonic() - start
    return {
        "scale": best[2],
        "seconds": seconds,
        **measure(apply_change(classifier, change.scale(best[2])), judged_images, spec),
    }


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("head_changes.jsonl"))
    parser.add_argument("--quick", action="store_true", help="two changes, one draw of few images")
    parser.add_argument("--base", type=Path, default=Path(str(files("faal_core") / "bundled/classifier.safetensors")))
    parser.add_argument("--dataset", default="fashion-mnist-subset")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epsilon", default="0.1")
    parser.add_argument("--images", type=int, nargs=3, default=[900, 400, 700], help="to search, validate and judge")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CHANGES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    """Run what is missing, print the means, then one JSON object."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.quick:
        arguments.draws, arguments.images = 1, [100, 50, 50]
        arguments.only = arguments.only or ["offsets", "all weights, attacked again"]
    size = sum(arguments.images)
    classifier = read_classifier(arguments.base).float().eval()
    data = load(arguments.dataset, "train", root=arguments.root)
    if arguments.draws * size > len(data):
        raise SystemExit(f"{arguments.draws} draws of {size} images are more than the {len(data)} of the data set.")
    attacks = [{"type": "apgd", "loss": "margin", "iterations": 2 * STEPS}]
    spec = AuditSpec.model_validate({"threat": {"epsilon": arguments.epsilon}, "attacks": attacks})
    subject = [digest(classifier), data.sha256, spec.model_dump_json(), str(arguments.images)]
    results = ResultRows(arguments.out, subject)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    for draw in range(arguments.draws):
        parts = [data.take(some) for some in order[draw * size : (draw + 1) * size].split(arguments.images)]
        for name in ["given", *(arguments.only or CHANGES)]:
            if any((row["change"], row["draw"]) == (name, draw) for row in results.rows):
                continue
            figures = measure(classifier, parts[2], spec) if name == "given" else run(name, classifier, parts, spec)
            results.append({"change": name, "draw": draw, **figures})
    summary = summarise(results.rows)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": arguments.threads}
    print(json.dumps({"benchmark": "head_changes", **versions, "dataset": data.name, "rows": summary}))


def summarise(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means of each change over the draws, and how its worst class differs from that of the offsets."""
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["change"], {})[row["draw"]] = row
    summary = {}
    for name, draws in by_name.items():
        figures = {
            figure: statistics.mean(row[figure] for row in draws.values() if figure in row)
            for figure in ("clean", "mean", "worst", "seconds")
            if figure in next(iter(draws.values()))
        }
        offsets = by_name.get("offsets", {})
        differences = [row["worst"] - offsets[draw]["worst"] for draw, row in draws.items() if draw in offsets]
        if name != "offsets" and differences:
            figures["beyond_offsets"] = statistics.mean(differences)
        if name != "offsets" and len(differences) > 1:
            figures["standard_error"] = statistics.stdev(differences) / len(differences) ** 0.5
        summary[name] = figures
    return summary


if __name__ == "__main__":
    main()
