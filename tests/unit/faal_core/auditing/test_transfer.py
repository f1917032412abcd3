"""Test attacks by the gradients of another network: they find what a defence hides, and every front end treats them alike."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import faal_core as faal
from faal_core import datasets
from faal_core.auditing.processes import Executors
from faal_core.auditing.result import AuditResult
from faal_core.auditing.sources import Source
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec, WeightsAmbiguous
from faal_core.evidence.batches import parse_batches, replay, select_whole_lines
from faal_core.evidence.statistics_check import list_unsupported
from faal_core.finetuning.audits import Audits
from faal_core.progress import NoProgress
from faal_core.reports.strength_text import describe_strength
from faal_core.results.comparability import require_comparable
from faal_core.results.documents import AuditReport
from faal_core.results.trust import list_codes
from faal_core.specs import AuditSettings, FinetuneSpec, PgdSpec, TransferSpec
from faal_core.threat_model import ThreatModel
from faal_core.weights import read_classifier, write_classifier
from tests.linear_classifier import build_linear_classifier
from tests.planted_defences import Defended, plant

SHAPE, EPSILON = (1, 5, 5), 0.12
CPU = torch.device("cpu")


class Hidden(nn.Module):
    """A classifier that leaves torch, and whose logits say only which class is likeliest: no gradient and no slope."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Return 2 for the likeliest class and −2 for the others."""
        logits = torch.from_numpy(self.classifier(x).detach().numpy().copy())
        return torch.where(logits == logits.amax(1, keepdim=True), 2.0, -2.0)


LINEAR = build_linear_classifier(2, SHAPE)
HIDDEN = Classifier.wrap(Hidden(LINEAR), num_classes=2).eval()
X = torch.rand(60, *SHAPE, generator=torch.Generator().manual_seed(1))
Y = LINEAR(X).argmax(1)


def find_robust() -> Tensor:
    """Return which images no perturbation breaks: of two linear logits, each pixel moves the margin on its own."""
    weight = LINEAR.backbone.linear.weight.detach()
    worst = (X - EPSILON * (weight[Y] - weight[1 - Y]).sign().view_as(X)).clamp(0, 1)
    return LINEAR(worst).argmax(1) == Y


def audit(classifier: Classifier, **options: Any) -> AuditResult:
    """Audit a classifier with the preset quick, in one process or as the options say."""
    fixed = {"epsilon": EPSILON, "attacks": "quick", "progress": False, "processes": 1}
    result: AuditResult = faal.audit(classifier, X, Y, **(fixed | options))
    return result


def test_transfer_finds_what_no_gradient_and_no_query_finds() -> None:
    """Surrogate gradients and Square leave images that can be broken; the gradients of the network behind leave none."""
    own = [{"type": "apgd", "loss": "margin", "gradient": "surrogate"}, {"type": "square", "queries": 200}]
    exact = int(find_robust().sum())
    assert audit(HIDDEN, attacks=own, escalate=False).report.robust.mean.count > exact
    shifted = copy.deepcopy(LINEAR)  # leaves class 0 sooner than the audited network does
    shifted.backbone.linear.bias.data[1] += 50
    report = audit(HIDDEN, transfer_from=shifted, escalate=False).report
    assert report.robust.mean.count == exact
    assert "Attacks 2 and 3 follow the gradients of another network" in " ".join(describe_strength(report))


@pytest.mark.slow
def test_transfer_to_the_hidden_bundled_network_is_as_strong_as_attacks_on_the_network_itself() -> None:
    """Of 100 images, at most one more resists transfer than the preset fast on the network that is hidden."""
    bundled = read_classifier(Path(faal.__file__).parent / "bundled/classifier.safetensors")
    data = datasets.load("fashion-mnist-subset", "test")
    data = data.take(data.stratified(100, 0))
    hidden = Classifier.wrap(Hidden(bundled), num_classes=10).eval()
    options: dict[str, Any] = {"epsilon": 0.1, "progress": False, "escalate": False}
    open_count = faal.audit(bundled, data, attacks="fast", **options).report.robust.mean.count
    report = faal.audit(hidden, data, attacks="quick", transfer_from=bundled, **options).report
    assert report.robust.mean.count <= open_count + 1 < report.attacks[0].tried - report.attacks[0].broken


def test_passes_of_both_networks_are_counted_and_the_source_stays_as_it_was() -> None:
    """An image that no run breaks takes all estimated passes; the source keeps its mode and its trainable weights."""
    source = Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(25, 2)), num_classes=2).train()
    report = audit(HIDDEN, transfer_from=source, epsilon=1e-6, escalate=False).report
    passes = [row.forward + row.backward for row in report.attacks]
    assert passes[1:] == [len(Y) * spec.passes(2) for spec in report.attack_specs[1:]]
    assert source.backbone[1].training
    assert all(weight.requires_grad for weight in source.parameters())


FAULTS = {
    "random": Defended(LINEAR, before=lambda x: x * torch.randn_like(x)),
    "NaN": Defended(LINEAR, after=lambda z: z / 0 * 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_source_neither_end_an_audit_nor_make_it_random(fault: str) -> None:
    """With random outputs or NaN logits of the source, two audits have the same outcomes."""
    source = Classifier.wrap(FAULTS[fault], num_classes=2)
    one, two = (audit(HIDDEN, transfer_from=source, escalate=False, subset=20) for _ in range(2))
    assert one.outcomes.sha256 == two.outcomes.sha256


def test_result_is_the_same_in_processes_and_after_a_stop_and_a_pack_follows_from_it(tmp_path: Path) -> None:
    """Forks have the source; a ledger without its last batches resumes; numbers follow from the outcomes without the source."""
    ledger = tmp_path / "ledger"
    whole = audit(HIDDEN, transfer_from=LINEAR, escalate=False, ledger=ledger, processes=2)
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    again = audit(HIDDEN, transfer_from=LINEAR, escalate=False, ledger=ledger)
    assert again.outcomes.sha256 == whole.outcomes.sha256
    report = AuditReport.model_validate_json(again.report.model_dump_json())
    assert list_unsupported(report, {"": report}, {"": again.outcomes}) == []
    evaluation, counts = replay(parse_batches(select_whole_lines(ledger.read_bytes())), Y.numpy(), report)
    assert evaluation.sha256 == again.evaluation.sha256
    assert [count.tried for count in counts] == [row.tried for row in report.attacks]
    other = build_linear_classifier(2, SHAPE, seed=1)
    renamed = Source("renamed", LINEAR).network
    named = [one.model_copy(update={"source": renamed}) for one in report.spec.attacks[1:]]
    spec = report.spec.model_copy(update={"attacks": (report.spec.attacks[0], *named)})
    require_comparable(report, report.model_copy(update={"spec": spec}))
    with pytest.raises(InvalidSpec, match="different attacks"):
        require_comparable(report, audit(HIDDEN, transfer_from=other, escalate=False).report)


def test_weights_of_another_audit_are_a_source(tmp_path: Path) -> None:
    """A path names a source; a file that does not state its architecture has that of the audited classifier."""
    sibling = {name: 2 * weights for name, weights in HIDDEN.backbone.state_dict().items()}
    torch.save(sibling, tmp_path / "sibling.pt")
    write_classifier(tmp_path / "trained.safetensors", build_convolutional())
    report = audit(
        HIDDEN, transfer_from=[tmp_path / "sibling.pt", str(tmp_path / "trained.safetensors")], escalate=False
    ).report
    names = [attack.source.name for attack in report.spec.attacks if isinstance(attack, TransferSpec)]
    assert names == ["sibling", "sibling", "trained", "trained"]


def build_convolutional(num_classes: int = 2, channels: int = 1) -> Classifier:
    """Return a network of the catalog with random weights."""
    from faal_core.networks import build
    from faal_core.specs import ClassifierSpec

    spec = ClassifierSpec(
        architecture="small_resnet", num_classes=num_classes, mean=(0.5,) * channels, std=(0.5,) * channels
    )
    return build(spec).eval()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([build_linear_classifier(3, SHAPE)], "has 3 classes, and the audited network has 2"),
        ([build_linear_classifier(2, (1, 6, 6))], "does not accept images of 1 × 5 × 5"),
        ([HIDDEN], "has the weights of the audited network"),
        ([LINEAR, LINEAR], "has the weights of the network small_resnet"),
        ([build_linear_classifier(2, SHAPE, seed) for seed in range(4)], "name at most 3"),
        ([LINEAR.backbone], "a Linear is neither a Classifier nor the path of weights"),
    ],
)
def test_sources_that_do_not_fit_are_refused(sources: list[Any], message: str) -> None:
    """The error names what differs between the source and the audited classifier."""
    with pytest.raises(InvalidSpec, match=message):
        audit(HIDDEN, transfer_from=sources)


def test_names_of_classes_in_another_order_are_refused_in_any_case() -> None:
    """Names are compared as those of a data set are: "Dog" is "dog"."""
    source = Classifier.wrap(LINEAR.backbone, num_classes=2, class_names=("Dog", "CAT"))
    with pytest.raises(InvalidSpec, match="another order"):
        audit(HIDDEN, transfer_from=source, class_names=("cat", "dog"))


def test_errors_of_a_file_name_it(tmp_path: Path) -> None:
    """The audited weights are in another file, and the options that select among several are about that one."""
    weights = HIDDEN.backbone.state_dict()
    torch.save({"one": weights, "two": weights}, tmp_path / "both.pt")
    with pytest.raises(WeightsAmbiguous, match=r"both\.pt, named for transfer attacks.*must hold one set"):
        audit(HIDDEN, transfer_from=tmp_path / "both.pt")


def test_a_spec_that_names_an_absent_source_is_refused() -> None:
    """Attacks of a report's spec cannot run without their source, and no fine-tuning lists them."""
    (_, attack, _) = audit(LINEAR, transfer_from=HIDDEN).report.spec.attacks
    with pytest.raises(InvalidSpec, match=r"network Hidden \(.{8}\), which is missing"):
        audit(LINEAR, attacks=[attack.model_dump()])
    with pytest.raises(ValueError, match="Leave out the attacks of type transfer"):
        FinetuneSpec(threat=ThreatModel(epsilon=EPSILON), audit=AuditSettings(attacks=(attack,)))


def build_audits(checkpoint: Path | None, only: Tensor) -> Audits:
    """Return the audits of a fine-tuning, on those of the images."""
    data = LabelledImages((X[only] * 255).round().byte(), Y[only], ("0", "1"), "drawn", "test")
    spec = FinetuneSpec(threat=ThreatModel(epsilon=EPSILON), audit=AuditSettings(attacks=(PgdSpec(steps=1),)))
    return Audits(data, data, spec, CPU, checkpoint, Executors(1))


def test_fine_tuning_attacks_by_the_gradients_of_the_given_weights() -> None:
    """A second audit that hides its gradients is attacked by those of the given network: both break all images that can be."""
    audits = build_audits(None, ~find_robust())
    alone = audits.run(LINEAR, "given", NoProgress())
    before, after = audits.run_after(LINEAR, "given", alone, HIDDEN, NoProgress())
    assert before.report.attack_specs == after.report.attack_specs
    assert sum(isinstance(one, TransferSpec) for one in after.report.attack_specs) == 2
    assert (before.report.robust.mean.count, after.report.robust.mean.count) == (0, 0)
    require_comparable(before.report, after.report)


def test_fine_tuning_repeats_further_attacks_that_change(tmp_path: Path) -> None:
    """If both audits' warnings lead to other attacks than those of one, no result of its own further attacks counts for them."""
    audits = build_audits(tmp_path, ~find_robust())
    alone = audits.run(LINEAR, "given", NoProgress(), paired_codes=("nan-gradient",))
    before, after = audits.run_after(LINEAR, "given", alone, plant("no graph", LINEAR), NoProgress())
    assert alone.report.attack_specs[1] != before.report.attack_specs[1] == after.report.attack_specs[1]
    fresh = build_audits(None, ~find_robust())
    again = fresh.run(LINEAR, "given", NoProgress(), paired_codes=list_codes(after.report))
    timeless = [[one.model_copy(update={"seconds": 0}) for one in result.batch_results] for result in (before, again)]
    assert timeless[0] == timeless[1]
