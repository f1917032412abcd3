"""Choose the images of each class that break first and those that hold best, as small pictures for the report."""

import base64
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.results.documents import AttackRow, GalleryImage
from faal_core.results.image_outcomes import UNBROKEN, Evaluation, Rows

CLASSES = 10  # most classes shown, the least robust ones: keeps the report on a thousand classes small
IMAGES = 3  # most images of each kind in each class
SIDE = 64  # pixels of the longer side; larger images are scaled down


def build_gallery(
    data: LabelledImages, evaluation: Evaluation, attacks: tuple[AttackRow, ...]
) -> tuple[GalleryImage, ...]:
    """Return the most fragile images of each class, then its hardest ones, class after class, the least robust class first.

    Fragile images were broken by an attack. Images broken by an earlier attack come first, then images of smaller clean
    margin. Hardest images were broken by no attack; those with the largest margin under attack come first. There are no
    hardest images where some images were left untried: the untried ones would come first. Ties keep the order of the
    images.
    """
    present = np.flatnonzero(data.counts)
    robust = np.bincount(evaluation.labels[evaluation.robust], minlength=len(data.class_names))
    complete = not any(attack.untried for attack in attacks)
    images = []
    ascending = present[np.argsort(robust[present] / data.counts[present], kind="stable")]
    for label in ascending[:CLASSES].tolist():
        images += [_describe_fragile(row, data, evaluation, attacks) for row in _find_fragile(evaluation, label)]
        images += [_describe_hardest(row, data, evaluation) for row in _find_hardest(evaluation, label) if complete]
    return tuple(images)


def _find_fragile(evaluation: Evaluation, label: int) -> list[int]:
    rows = np.flatnonzero((evaluation.labels == label) & (evaluation.broken_by != UNBROKEN))
    return _take_first(rows, np.lexsort((evaluation.clean_margin[rows], evaluation.broken_by[rows])))


def _find_hardest(evaluation: Evaluation, label: int) -> list[int]:
    rows = np.flatnonzero((evaluation.labels == label) & evaluation.robust)
    return _take_first(rows, np.argsort(-evaluation.margin[rows], kind="stable"))


def _take_first(rows: Rows, order: Rows) -> list[int]:
    first: list[int] = rows[order[:IMAGES]].tolist()
    return first


def _describe_fragile(
    row: int, data: LabelledImages, evaluation: Evaluation, attacks: tuple[AttackRow, ...]
) -> GalleryImage:
    return GalleryImage(
        kind="fragile",
        row=row,
        true=data.class_names[evaluation.labels[row]],
        margin=float(evaluation.clean_margin[row]),
        predicted=data.class_names[evaluation.attacked[row]],
        attack=attacks[evaluation.broken_by[row]].name,
        distance=float(evaluation.distance[row]),
        png=encode_picture(data, row),
    )


def _describe_hardest(row: int, data: LabelledImages, evaluation: Evaluation) -> GalleryImage:
    return GalleryImage(
        kind="hardest",
        row=row,
        true=data.class_names[evaluation.labels[row]],
        margin=float(evaluation.margin[row]),
        png=encode_picture(data, row),
    )


def encode_picture(data: LabelledImages, row: int) -> str:
    """Return the image without a perturbation as a PNG in base64.

    The longer side has at most SIDE pixels; larger images are scaled down by averaging areas. Of three or four channels
    the first three are red, green and blue: a fourth channel (opacity) would hide pixels that the classifier sees. Of one
    or two channels the first one is grey.
    """
    levels = (data.pixels(torch.tensor([row]), torch.device("cpu"))[0] * 255).round().byte().numpy()
    image = Image.fromarray(np.moveaxis(levels[:3], 0, -1) if len(levels) >= 3 else levels[0])
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
