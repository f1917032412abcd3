"""Test the warnings on copies, on training images among the audited ones, and on tiny radii."""

import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from faal_core import datasets
from faal_core.auditing.reliability import digest_pixels, digest_training_images, examine_images
from faal_core.auditing.run import run_audit
from faal_core.datasets import npz_arrays
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.specs import AuditSpec, PgdSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier

CPU = torch.device("cpu")
THREAT = ThreatModel(epsilon=0.1)


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.uint8) -> LabelledImages:
    """Return random images of two classes in turn."""
    levels = torch.randint(0, 256, (count, 1, 5, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    pixels = levels if dtype == torch.uint8 else levels.to(dtype) / 255
    return LabelledImages(pixels, torch.arange(count) % 2, ("cat", "dog"), "random", "test")


def codes(
    data: LabelledImages, threat: ThreatModel = THREAT, trained_on: LabelledImages | None = None
) -> dict[str, str]:
    """Return the evidence of each warning, by its code."""
    digests = frozenset(digest_pixels(trained_on)) if trained_on else frozenset()
    return {warning.code: warning.evidence for warning in examine_images(data, threat, digests)}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_training_images_among_those_audited_are_counted(dtype: torch.dtype) -> None:
    """The warning counts three training images among 200 and names the first; other images raise no warning."""
    test, train = images(200, 1, dtype), images(300, 2, dtype)
    assert codes(test, trained_on=train) == {}
    train.images[[5, 6, 7]] = test.images[[42, 17, 99]]
    evidence = codes(test, trained_on=train)["training-images"]
    assert evidence.startswith("3 of 200 images (1.5%)")
    assert evidence.endswith("first image 17 of class 'dog'")


def test_one_training_image_among_thousands_is_no_warning() -> None:
    """An image or two shared by both parts, as in well-known sets, raises no warning, because no rate changes."""
    test, train = images(2000, 1), images(10, 2)
    train.images[3] = test.images[17]
    assert codes(test, trained_on=train) == {}


def test_copies_are_counted_with_what_contradicts() -> None:
    """The warning counts 19 copies if 20 of 100 images are black, and says that copies are in several classes."""
    test = images(100)
    assert codes(test) == {}
    test.images[30:50] = 0
    evidence = codes(test)["copied-images"]
    assert evidence.startswith(
        "19 of 100 images repeat another one; the commonest occurs 20 times, first image 30 of class 'cat'"
    )
    assert evidence.endswith("1 repeated images are in several classes")


def test_a_radius_below_one_grey_level_is_noticed_for_8_bit_images_only() -> None:
    """A radius of 8/255 divided by 255 again is smaller than a level and raises a warning; float images have no levels."""
    tiny = ThreatModel(epsilon=8 / 255 / 255)
    assert set(codes(images(20), tiny)) == {"radius-below-grey-level"}
    assert codes(images(20), ThreatModel(epsilon="1/255")) == {}
    assert codes(images(20, dtype=torch.float32), tiny) == {}


@pytest.mark.parametrize(("epsilon", "is_refused"), [(5.0, False), (5.001, True), (128, True)])
def test_an_l2_radius_beyond_all_images_is_refused(epsilon: float, is_refused: bool) -> None:
    """A radius above √25 = 5, the largest distance between images of 1 × 5 × 5, is refused with that distance."""
    spec = AuditSpec(threat=ThreatModel(norm=Norm.L2, epsilon=epsilon), attacks=(PgdSpec(steps=1),))
    classifier = build_linear_classifier(2, (1, 5, 5))
    if not is_refused:
        assert run_audit(classifier, images(20), spec, name="linear", device=CPU).report.robust.mean.images == 20
        return
    with pytest.raises(InvalidSpec, match=rf"The radius L2 ε = {epsilon:.6g} exceeds 5, the largest distance"):
        run_audit(classifier, images(20), spec, name="linear", device=CPU)


def test_an_audit_that_knows_the_training_images_warns_of_them() -> None:
    """An audit of the bundled test images raises no warning, unless they are passed as training images too."""
    test = datasets.load("fashion-mnist-subset", "test")
    test = test.take(test.stratified(20, 0))
    spec = AuditSpec(threat=THREAT, attacks=(PgdSpec(steps=1),))
    for part, expected in (("train", False), ("test", True)):
        digests = frozenset(digest_pixels(datasets.load("fashion-mnist-subset", part)))
        classifier = build_linear_classifier(10, (1, 28, 28))
        report = run_audit(classifier, test, spec, name="linear", device=CPU, trained_on=digests).report
        assert ("training-images" in {warning.code for warning in report.warnings}) == expected


def test_the_training_part_of_named_sets_and_arrays_is_known(tmp_path: Path) -> None:
    """A named set and an archive have digests of their training images; a data set without a training part has none."""
    train = datasets.load("fashion-mnist-subset", "train")
    assert digest_training_images("fashion-mnist-subset", "test") == frozenset(digest_pixels(train))
    levels = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 1), dtype=np.uint8)
    labels = np.array([0, 1] * 3)
    both, test_only = tmp_path / "both.npz", tmp_path / "test.npz"
    tests = {"test_images": levels[:4], "test_labels": labels[:4]}
    np.savez(test_only, **tests)
    np.savez(both, train_images=levels[2:], train_labels=labels[2:], **tests)
    digests = frozenset(digest_pixels(datasets.load(str(both), "train")))
    assert digest_training_images(str(both), "test") == digest_training_images(str(both), "validation") == digests
    assert len(digests) == 4
    assert set(codes(datasets.load(str(both), "test"), trained_on=datasets.load(str(both), "train"))) == {
        "training-images"
    }
    assert (
        digest_training_images(str(test_only), "test") == digest_training_images(str(tmp_path), "test") == frozenset()
    )


def test_training_images_are_no_surprise_in_the_training_part() -> None:
    """An audit of the training part itself reports no training images."""
    assert digest_training_images("fashion-mnist-subset", "train") == frozenset()


@pytest.mark.parametrize("shape", [(300, 9, 7), (300, 9, 7, 3), (300, 3, 9, 7)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_digests_of_an_archive_read_in_pieces(
    shape: tuple[int, ...], order: Literal["C", "F"], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digests of an archive's images are the same whether it is read in pieces or as a whole."""
    monkeypatch.setattr(npz_arrays, "CHUNK_BYTES", 5000)
    levels = np.random.default_rng(0).integers(0, 256, shape)
    images = np.asarray(levels if kind == "uint8" else levels / 255, kind, order=order)
    np.savez_compressed(tmp_path / "set.npz", train_images=images, train_labels=np.arange(300) % 2)
    whole = digest_pixels(datasets.load(str(tmp_path / "set.npz"), "train"))
    assert digest_training_images(str(tmp_path / "set.npz"), "test") == frozenset(whole)
    assert len(set(whole)) == 300


def test_a_training_part_that_cannot_be_read_is_none_known(tmp_path: Path) -> None:
    """An archive whose training images are damaged, pickled or cut off has no digests, and the audit continues."""
    images, labels = np.zeros((4, 5, 5), np.uint8), np.array([0, 1] * 2)
    np.savez(tmp_path / "objects.npz", train_images=images.astype(object), train_labels=labels)
    np.savez(tmp_path / "cut.npz", train_images=images, train_labels=labels)
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content.replace(b"(4, 5, 5)", b"(4, 5, 9)"))
    for name in ("objects.npz", "cut.npz", "absent.npz"):
        assert digest_training_images(str(tmp_path / name), "test") == frozenset()


def test_a_sites_own_set_without_a_training_part_is_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site's data set that raises an error for the training part has no digests, and the audit continues."""
    info = tmp_path / "tests_only-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tests-only\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[faal.datasets]\ntests-only = tests_only:load\n")
    (tmp_path / "tests_only.py").write_text("def load(part, *, root, download):\n    return {'test': 1}[part]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyError):
        datasets.load("tests-only", "train")
    assert digest_training_images("tests-only", "test") == frozenset()


def test_digests_of_60_000_images_take_a_second() -> None:
    """The digests of as many images as CIFAR-10's training part has take less than five seconds."""
    pixels = torch.zeros(60_000, 3, 32, 32, dtype=torch.uint8)
    data = LabelledImages(pixels, torch.arange(60_000) % 2, ("cat", "dog"), "blank", "train")
    start = time.process_time()
    assert len(set(digest_pixels(data))) == 1
    assert time.process_time() - start < 5
