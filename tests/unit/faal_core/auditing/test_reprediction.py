"""The adversarial images of a pack are predicted again, and only near ties may differ."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import faal_core as faal
from faal_core.auditing import reprediction
from faal_core.auditing.reprediction import check_predictions
from faal_core.datasets.from_python import label_images
from faal_core.errors import InvalidSpec
from faal_core.evidence import verify_pack, write_pack
from faal_core.evidence.archive import Member
from faal_core.evidence.batches import replay
from faal_core.evidence.contents import Contents
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.result import Check, VerificationResult
from faal_core.results.ledger import CERTIFIED, BatchResult
from tests.evidence_packs import forge, read_members

CLASSES, IMAGES = 3, 60


@dataclass
class Audited:
    """Holds an audit with the files of its pack."""

    folder: Path
    classifier: faal.Classifier
    images: torch.Tensor
    labels: torch.Tensor

    def verify(self, **options: object) -> VerificationResult:
        """Return the verification of the pack with these weights."""
        return verify_pack(
            self.folder / "pack.zip",
            repredict=lambda contents: check_predictions(contents, self.classifier, **options),
        )

    def predict(self, **options: object) -> Check:
        """Return the check of the predictions."""
        (check,) = (check for check in self.verify(**options).checks if check.name == "predictions")
        return check


def _build_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, CLASSES))


@pytest.fixture(scope="module", name="audited")
def _audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Return an audit that breaks about half of the images, and its pack with ledger and adversarial images."""
    folder = tmp_path_factory.mktemp("audited")
    classifier = faal.Classifier.wrap(_build_network(), num_classes=CLASSES, mean=0.5, std=0.25)
    images = torch.rand(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = classifier(images)
    labels = (logits - logits.mean(0)).argmax(1)
    result = faal.audit(
        classifier,
        images,
        labels,
        epsilon=0.02,
        attacks="pgd-20",
        batch_size=16,
        ledger=folder / "audit.ledger",
        keep_adversarial=folder / "adversarial.npy",
        progress=False,
    )
    evaluation = result.evaluation
    assert 5 < int((evaluation.broken_by >= 0).sum()) < IMAGES - 5
    result.save(folder / "out")
    write_pack(
        folder / "pack.zip", folder / "out", ledger=folder / "audit.ledger", adversarial=folder / "adversarial.npy"
    )
    return Audited(folder, classifier, images, labels)


@pytest.fixture(name="copy")
def _copy(audited: Audited, tmp_path: Path) -> Audited:
    """Return the audit with a copy of the pack, which a test may change."""
    (tmp_path / "pack.zip").write_bytes((audited.folder / "pack.zip").read_bytes())
    return replace(audited, folder=tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_all_flips_are_predicted_again(audited: Audited, threads: int) -> None:
    """With the weights and the data set, each image is predicted as before, whatever the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = audited.verify(data=label_images(audited.images, audited.labels, audited.classifier))
    finally:
        torch.set_num_threads(before)
    assert result.verified
    statuses = {check.name: check.status for check in result.checks}
    assert statuses["predictions"] == statuses["batches"] == "passed"


def test_other_weights_are_refused(audited: Audited) -> None:
    """Weights with another digest, and another normalisation, are refused."""
    other = faal.Classifier.wrap(_build_network(1), num_classes=CLASSES, mean=0.5, std=0.25)
    assert "SHA-256 differs" in replace(audited, classifier=other).predict().sentence
    other = faal.Classifier.wrap(_build_network(), num_classes=CLASSES, mean=0.4, std=0.25)
    assert "another normalisation" in replace(audited, classifier=other).predict().sentence


def test_other_images_are_refused(copy: Audited) -> None:
    """An adversarial image in place of another one, pixels outside of [0, 1], and files of another shape are refused."""
    name = "adversarial.npy"
    content = read_members(copy.folder / "pack.zip")[name]
    start = len(content) - 4 * 64 * IMAGES
    images = np.frombuffer(content[start:], "<f4").reshape(IMAGES, 1, 8, 8)
    report = (copy.folder / "pack.zip").with_name("x.npy")
    cases = {
        "SHA-256 differs": content[:start] + images[::-1].tobytes(),
        "outside of [0, 1]": content[:start] + (images + 2).tobytes(),
        "numbers of 32 bits": content[:-4],
        " numbers": b"\x93NUMPY" + b"\1\0" + b"\xff\xff" + b"(" * 70_000,
    }
    np.save(report, images.astype(np.float64))
    cases["60 × 1 × 8 × 8"] = report.read_bytes()
    for message, other in cases.items():
        forge(copy.folder / "pack.zip", {name: other})
        assert message in copy.predict().sentence
        assert copy.predict().status == "failed"
        without_weights = verify_pack(copy.folder / "pack.zip")
        assert "adversarial" in [check.name for check in without_weights.checks if check.status == "failed"]


def test_a_forged_flip_is_noticed(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that the network classifies correctly after all cannot be stated as broken."""
    other = faal.Classifier.wrap(_build_network(), num_classes=CLASSES, mean=0.5, std=0.25)
    with torch.no_grad():
        other.backbone[3].bias += torch.tensor([3.0, 0, 0])
    digest = _stated_digest(audited)
    monkeypatch.setattr("faal_core.weights.digest", lambda _: digest)  # the forger's digest fits, the network does not
    check = replace(audited, classifier=other).predict()
    assert check.status == "failed"
    assert "is predicted as class 0" in check.sentence


def _stated_digest(audited: Audited) -> str:
    digest: str = json.loads(read_members(audited.folder / "pack.zip")["report.json"])["classifier"]["sha256"]
    return digest


@pytest.mark.parametrize(("lead", "offset"), [(0.0009, 0.0), (0.0011, 0.0), (0.0011, 1000.0)])
def test_near_ties_are_listed(lead: float, offset: float) -> None:
    """A prediction may differ where the logits differ by a thousandth of their range, whatever all logits have in common."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES)).double()
    nn.init.zeros_(network[1].weight)
    network[1].bias.data = torch.tensor([1.0, 1.0 + lead, 0.0], dtype=torch.float64) + offset
    classifier = faal.Classifier.wrap(network, num_classes=CLASSES, mean=0.5, std=0.25)
    images = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    if lead < reprediction.NEAR_TIE:
        ties = reprediction._compare(classifier, iter([images]), np.array([0, 1, 0]), "clean")
        assert ties == [f"image {row} clean: logits differ by {lead:.3g}" for row in (0, 2)]
    else:
        with pytest.raises(PackRefused, match="Image 0 is predicted as class 1 clean, and the outcomes state 0"):
            reprediction._compare(classifier, iter([images]), np.array([0, 1, 0]), "clean")


def test_other_data_is_refused(audited: Audited) -> None:
    """A data set with other images, other labels or fewer images than the audited one is refused."""
    for images, labels, message in (
        (1 - audited.images, audited.labels, "SHA-256 differs"),
        (audited.images, audited.labels.roll(1), "SHA-256 differs"),
        (audited.images[:-1], audited.labels[:-1], "not those that the seed draws"),
    ):
        check = audited.predict(data=label_images(images, labels, audited.classifier))
        assert check.status == "failed"
        assert message in check.sentence


def test_without_adversarial_images(audited: Audited, tmp_path: Path) -> None:
    """A pack without adversarial images needs their file or the data set; with the data set, clean predictions are checked."""
    write_pack(tmp_path / "pack.zip", audited.folder / "out")
    slim = replace(audited, folder=tmp_path)
    with pytest.raises(InvalidSpec, match="no adversarial images"):
        slim.verify()
    check = slim.predict(adversarial=audited.folder / "adversarial.npy")
    assert check.status == "passed", check.sentence
    check = slim.predict(data=label_images(audited.images, audited.labels, audited.classifier))
    assert check.sentence.startswith("The clean predictions are as stated")


def _write_batch(run: int) -> bytes:
    """Return the line of a batch with one image, in a run that no audit makes."""
    one = BatchResult(
        attack=0,
        run=run,
        rows=(0,),
        predicted=(0,),
        margin=(0.0,),
        logit_margin=(0.0,),
        distance=(0.0,),
        sha256=("",),
        forward=1,
        backward=1,
        seconds=0.0,
    )
    return one.model_dump_json().encode() + b"\n"


def _write_certified(bound: float) -> bytes:
    """Return a line by which bounds certify the first image as class 0."""
    one = json.loads(_write_batch(0)) | {"attack": CERTIFIED, "run": 0, "rows": [0], "predicted": [0]}
    one |= {"logit_margin": [bound], "margin": [1.0], "distance": [0.0], "sha256": [""]}
    return json.dumps(one).encode() + b"\n"


def test_another_ledger_is_refused(copy: Audited) -> None:
    """Batches whose results do not give the outcomes, that do not fit the images, or that are no batches, are refused."""
    lines = read_members(copy.folder / "pack.zip")["batches.jsonl"].splitlines(keepends=True)
    for changed in (
        lines[:-1],
        [line.replace(b'"rows":[0,', b'"rows":[1000000,') for line in lines],
        [*lines, *map(_write_batch, range(1, 2000))],
        [*lines, _write_certified(0.0), _write_certified(1.0)],
        [*lines, _write_certified(-1.0)],
        [*lines[:1], b"{}\n"],
        lines[:1],
        [*lines[:-1], lines[-1][:50]],
    ):
        forge(copy.folder / "pack.zip", {"batches.jsonl": b"".join(changed)})
        failed = [check.name for check in copy.verify().checks if check.status == "failed"]
        assert "batches" in failed, changed


def test_an_unfinished_audit_cannot_say_that_it_is_complete(copy: Audited) -> None:
    """The numbers of tried and untried images must follow from the ledger."""
    pack = copy.folder / "pack.zip"
    report = json.loads(read_members(pack)["report.json"])
    report["attacks"][0]["untried"] = 3
    forge(pack, {"report.json": json.dumps(report).encode()})
    (check,) = (check for check in verify_pack(pack).checks if check.name == "batches")
    assert check.status == "failed"
    assert check.sentence.startswith("attacks[0] does not follow from the results of the batches: 0 of")


def test_images_without_a_batch_are_untried(copy: Audited) -> None:
    """A ledger without the last batch of an attack leaves its images untried, and one without any run leaves all."""
    contents = Contents({name: Member.from_bytes(one) for name, one in read_members(copy.folder / "pack.zip").items()})
    batches, labels = contents.batches, next(iter(contents.outcomes.values())).evaluation.labels
    assert batches is not None
    *others, last = batches.results
    _, counts = replay(replace(batches, results=tuple(others)), labels, contents.audited)
    assert [count.untried for count in counts] == [0] * last.attack + [len(last.rows)]
    clean = tuple(one for one in others if one.attack < 0)
    _, counts = replay(replace(batches, results=clean), labels, contents.audited)
    assert all(count.untried == count.tried > 0 for count in counts)
