"""Test the gallery: its choice of images, their order, and their pictures."""

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from faal_core.auditing.gallery import build_gallery, encode_picture
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.results.documents import AttackRow
from faal_core.results.image_outcomes import UNBROKEN, Evaluation

ATTACKS = tuple(
    AttackRow(name=name, tried=9, broken=2, forward=9, backward=9, seconds=1.0) for name in ("first", "second")
)


def images_of(labels: list[int], classes: int) -> LabelledImages:
    """Return images of 2 × 2 grey pixels; the level of image i is 10 · i."""
    levels = (10 * torch.arange(len(labels), dtype=torch.uint8)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    names = tuple(f"class {c}" for c in range(classes))
    return LabelledImages(levels.clone(), torch.tensor(labels), names, "synthetic", "test")


def evaluation_of(
    labels: list[int], broken_by: list[int], clean_margin: list[float], margin: list[float]
) -> Evaluation:
    """Return an evaluation in which an image is right clean unless its clean margin is negative.

    Wrong images are classified as class 0 or 1.
    """
    label, fell = np.array(labels), np.array(broken_by) != UNBROKEN
    other = np.where(label == 0, 1, 0)
    clean = np.where(np.array(clean_margin) < 0, other, label)
    return Evaluation(
        labels=label,
        clean=clean,
        attacked=np.where(fell, other, clean),
        broken_by=np.array(broken_by),
        distance=np.where(fell, 0.25, 0.0),
        clean_margin=np.array(clean_margin),
        margin=np.array(margin),
        sha256=("",) * len(labels),
    )


def open_picture(png: str) -> Image.Image:
    """Return the picture in the document."""
    return Image.open(BytesIO(base64.b64decode(png)))


def test_the_earliest_attack_comes_first_and_then_the_smallest_clean_margin() -> None:
    """Three of the broken images are fragile, ordered by attack, then by clean margin, then by row."""
    labels, broken_by = [0] * 6 + [1], [1, 0, 0, 0, 1, UNBROKEN, UNBROKEN]
    clean_margin = [0.1, 0.9, 0.5, 0.5, 0.2, -0.3, 0.9]
    evaluation = evaluation_of(labels, broken_by, clean_margin, [-0.1] * 6 + [0.8])
    gallery = [image for image in build_gallery(images_of(labels, 2), evaluation, ATTACKS) if image.kind == "fragile"]
    assert [(image.row, image.margin, image.attack) for image in gallery] == [
        (2, 0.5, "first"),
        (3, 0.5, "first"),
        (1, 0.9, "first"),
    ]
    assert {(image.true, image.predicted, image.distance) for image in gallery} == {("class 0", "class 1", 0.25)}


def test_the_hardest_kept_the_largest_margin_under_attack() -> None:
    """Three of the unbroken images are hardest, by the least margin under attack, not by the clean margin."""
    labels, broken_by = [0] * 6 + [1], [UNBROKEN] * 5 + [0, UNBROKEN]
    clean_margin, margin = [0.99, 0.6, 0.7, 0.8, -0.5, 0.9, 0.9], [0.1, 0.5, 0.3, 0.5, -0.5, -0.1, 0.8]
    gallery = build_gallery(images_of(labels, 2), evaluation_of(labels, broken_by, clean_margin, margin), ATTACKS)
    hardest = [image for image in gallery if image.true == "class 0" and image.kind == "hardest"]
    assert [(image.row, image.margin) for image in hardest] == [(1, 0.5), (3, 0.5), (2, 0.3)]
    assert {(image.predicted, image.attack, image.distance) for image in hardest} == {(None, None, None)}


def test_an_audit_that_was_stopped_has_no_hardest_images() -> None:
    """No image is called hardest if some images were not attacked."""
    labels = [0, 0, 1]
    evaluation = evaluation_of(labels, [0, UNBROKEN, UNBROKEN], [0.2, 0.3, 0.4], [-0.1, 0.3, 0.4])
    rows = (ATTACKS[0], ATTACKS[1].model_copy(update={"untried": 1}))
    assert [image.kind for image in build_gallery(images_of(labels, 2), evaluation, rows)] == ["fragile"]


def test_the_ten_least_robust_classes_are_listed_worst_first() -> None:
    """Of twelve classes the two most robust are omitted; equally robust classes keep their order, and fragile images lead."""
    robust = [4, 0, 3, 2, 2, 2, 2, 2, 2, 2, 3, 4]  # of four images each
    labels = [c for c in range(12) for _ in range(4)]
    broken_by = [UNBROKEN if place < robust[c] else 0 for c in range(12) for place in range(4)]
    margin = [0.5 if attack == UNBROKEN else -0.5 for attack in broken_by]
    gallery = build_gallery(images_of(labels, 12), evaluation_of(labels, broken_by, [0.5] * 48, margin), ATTACKS)
    assert list(dict.fromkeys(image.true for image in gallery)) == [
        f"class {c}" for c in (1, 3, 4, 5, 6, 7, 8, 9, 2, 10)
    ]
    kinds = [image.kind for image in gallery if image.true == "class 2"]
    assert kinds == ["fragile", "hardest", "hardest", "hardest"]


def test_each_picture_is_of_its_own_row() -> None:
    """Each picture shows the pixels of the image in its row."""
    labels = [0] * 4 + [1]
    evaluation = evaluation_of(
        labels, [0, UNBROKEN, 0, UNBROKEN, 1], [0.3, 0.3, 0.2, 0.2, 0.1], [-0.1, 0.1, -0.1, 0.2, -1]
    )
    gallery = build_gallery(images_of(labels, 2), evaluation, ATTACKS)
    assert len(gallery) == 5
    for image in gallery:
        assert open_picture(image.png).getextrema() == (10 * image.row, 10 * image.row)


@pytest.mark.parametrize(("channels", "visible"), [(1, [0]), (2, [0]), (3, [0, 1, 2]), (4, [0, 1, 2])])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_small_pictures_keep_every_pixel(channels: int, visible: list[int], dtype: torch.dtype) -> None:
    """A picture of up to 64 pixels a side is opaque and has the levels of the visible channels, for any type of data."""
    levels = torch.randint(256, (3, channels, 64, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = levels if dtype == torch.uint8 else levels.float() / 255
    png = open_picture(encode_picture(LabelledImages(images, torch.tensor([0, 0, 0]), ("a",), "synthetic", "test"), 1))
    assert png.mode == ("L" if len(visible) == 1 else "RGB")
    np.testing.assert_array_equal(np.asarray(png), levels[1, visible].permute(1, 2, 0).squeeze(2).numpy())


def test_large_pictures_are_averaged_down() -> None:
    """A picture of 128 × 256 pixels is reduced to 32 × 64, each the mean of four by four pixels."""
    levels = torch.randint(256, (1, 1, 128, 256), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    png = np.asarray(
        open_picture(encode_picture(LabelledImages(levels, torch.tensor([0]), ("a",), "synthetic", "test"), 0))
    )
    assert png.shape == (32, 64)
    means = levels[0, 0].double().view(32, 4, 64, 4).mean((1, 3)).numpy()
    np.testing.assert_allclose(png, means, atol=1)  # rounded after the rows and again after the columns


def test_the_pictures_of_ten_colour_classes_fit_into_a_quarter_megabyte() -> None:
    """Pictures of noise, the worst for any compression, stay below the size that docs/how-to/reports.md states."""
    noise = torch.randint(256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert 60 * len(encode_picture(LabelledImages(noise, torch.tensor([0]), ("a",), "synthetic", "test"), 0)) < 262_144


def test_a_class_without_images_has_no_place() -> None:
    """A class without images does not change the gallery of the other classes."""
    labels, broken_by, margins = [0, 0, 2, 2], [UNBROKEN, 0, UNBROKEN, UNBROKEN], [0.1, 0.2, 0.3, 0.4]
    gallery = build_gallery(images_of(labels, 3), evaluation_of(labels, broken_by, margins, margins), ATTACKS)
    assert [(image.true, image.kind, image.row) for image in gallery] == [
        ("class 0", "fragile", 1),
        ("class 0", "hardest", 0),
        ("class 2", "hardest", 3),
        ("class 2", "hardest", 2),
    ]
