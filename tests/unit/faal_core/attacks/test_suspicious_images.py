"""Copies, training images among those audited, and radii without a sense are noticed."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from faal_core import datasets
from faal_core.attacks.reliability import examine_images, pixel_digests, training_digests
from faal_core.audit import audit
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.specs import AuditSpec, PgdSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import linear_classifier

CPU = torch.device("cpu")
THREAT = ThreatModel(epsilon=0.1)


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.uint8) -> LabelledImages:
    """Random images of two classes in turn."""
    levels = torch.randint(0, 256, (count, 1, 5, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    pixels = levels if dtype == torch.uint8 else levels.to(dtype) / 255
    return LabelledImages(pixels, torch.arange(count) % 2, ("cat", "dog"), "random", "test")


def codes(
    data: LabelledImages, threat: ThreatModel = THREAT, trained_on: LabelledImages | None = None
) -> dict[str, str]:
    """The evidence of each warning, by its code."""
    known = frozenset(pixel_digests(trained_on)) if trained_on else frozenset()
    return {warning.code: warning.evidence for warning in examine_images(data, threat, known)}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_training_images_among_those_audited_are_counted(dtype: torch.dtype) -> None:
    """Three of 200 images that were trained on are counted, the first of them is named; other images raise nothing."""
    test, train = images(200, 1, dtype), images(300, 2, dtype)
    assert codes(test, trained_on=train) == {}
    train.images[[5, 6, 7]] = test.images[[42, 17, 99]]
    evidence = codes(test, trained_on=train)["training-images"]
    assert evidence.startswith("3 of 200 images (1.5%)")
    assert evidence.endswith("first image 17 of class 'dog'")


def test_one_training_image_among_thousands_is_left_alone() -> None:
    """Well-known sets share an image or two between their parts; that moves no rate."""
    test, train = images(2000, 1), images(10, 2)
    train.images[3] = test.images[17]
    assert codes(test, trained_on=train) == {}


def test_copies_are_counted_with_what_contradicts() -> None:
    """Of 100 images twenty are black, in both classes: 19 repeat another."""
    test = images(100)
    assert codes(test) == {}
    test.images[30:50] = 0
    evidence = codes(test)["copied-images"]
    assert evidence.startswith("19 of 100 images repeat another; one is there 20 times, first image 30 of class 'cat'")
    assert evidence.endswith("1 pictures are in several classes")


def test_a_radius_below_one_grey_level_is_noticed_for_8_bit_images_only() -> None:
    """8/255 that was divided by 255 once more is smaller than a level; floats have no levels."""
    tiny = ThreatModel(epsilon=8 / 255 / 255)
    assert set(codes(images(20), tiny)) == {"radius-below-grey-level"}
    assert codes(images(20), ThreatModel(epsilon="1/255")) == {}
    assert codes(images(20, dtype=torch.float32), tiny) == {}


@pytest.mark.parametrize(("epsilon", "refused"), [(5.0, False), (5.001, True), (128, True)])
def test_an_l2_radius_beyond_all_images_is_refused(epsilon: float, refused: bool) -> None:
    """Two images of 1 × 5 × 5 are at most √25 = 5 apart; a larger radius is named with that distance."""
    spec = AuditSpec(threat=ThreatModel(norm=Norm.L2, epsilon=epsilon), attacks=(PgdSpec(steps=1),))
    classifier = linear_classifier(2, (1, 5, 5))
    if not refused:
        assert audit(classifier, images(20), spec, name="linear", device=CPU).report.robust.mean.images == 20
        return
    with pytest.raises(InvalidSpec, match=rf"The radius L2 ε = {epsilon:.6g} exceeds 5, the largest distance"):
        audit(classifier, images(20), spec, name="linear", device=CPU)


def test_an_audit_that_knows_the_training_images_warns_of_them() -> None:
    """The bundled test images are no training images; audited as if they were, every one is."""
    test = datasets.load("fashion-mnist-subset", "test")
    test = test.take(test.stratified(20, 0))
    spec = AuditSpec(threat=THREAT, attacks=(PgdSpec(steps=1),))
    for part, expected in (("train", False), ("test", True)):
        known = frozenset(pixel_digests(datasets.load("fashion-mnist-subset", part)))
        classifier = linear_classifier(10, (1, 28, 28))
        report = audit(classifier, test, spec, name="linear", device=CPU, trained_on=known).report
        assert ("training-images" in {warning.code for warning in report.warnings}) == expected


def test_the_training_part_of_named_sets_and_arrays_is_known(tmp_path: Path) -> None:
    """A named set and an archive of arrays have digests of their training images; without such a part there are none."""
    bundled = datasets.load("fashion-mnist-subset", "train")
    assert training_digests("fashion-mnist-subset") == frozenset(pixel_digests(bundled))
    levels = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 1), dtype=np.uint8)
    labels = np.array([0, 1] * 3)
    both, test_only = tmp_path / "both.npz", tmp_path / "test.npz"
    tests = {"test_images": levels[:4], "test_labels": labels[:4]}
    np.savez(test_only, **tests)
    np.savez(both, train_images=levels[2:], train_labels=labels[2:], **tests)
    known = frozenset(pixel_digests(datasets.load(str(both), "train")))
    assert training_digests(str(both)) == known
    assert len(known) == 4
    assert set(codes(datasets.load(str(both), "test"), trained_on=datasets.load(str(both), "train"))) == {
        "training-images"
    }
    assert training_digests(str(test_only)) == training_digests(str(tmp_path)) == frozenset()


def test_digests_of_60_000_images_take_a_second() -> None:
    """CIFAR-10's training part is compared in less time than it takes to load."""
    pixels = torch.zeros(60_000, 3, 32, 32, dtype=torch.uint8)
    data = LabelledImages(pixels, torch.arange(60_000) % 2, ("cat", "dog"), "blank", "train")
    begun = time.process_time()
    assert len(set(pixel_digests(data))) == 1
    assert time.process_time() - begun < 5
