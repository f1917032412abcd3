"""The images of each class that fall first and those that hold best, as small pictures for the report."""

import base64
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.results.documents import AttackRow, GalleryImage
from faal_core.results.image_outcomes import UNBROKEN, Evaluation, Rows

CLASSES = 10  # at most, the least robust ones: the report on a thousand classes stays small
IMAGES = 3  # of each kind in each class
SIDE = 64  # pixels; what is larger is scaled down


def gallery(data: LabelledImages, evaluation: Evaluation, attacks: tuple[AttackRow, ...]) -> tuple[GalleryImage, ...]:
    """The most fragile images of each class, then its hardest ones; class after class, the least robust first.

    Fragile are images that an attack broke: the earlier the attack, and then the smaller the margin as they are, the more
    fragile. Hardest are images that no attack broke: the larger the least margin seen, the harder. Where images were left
    untried there are no hardest ones, since those would be first that no attack was made on. Ties stay in the images' order.
    """
    present = np.flatnonzero(data.counts)
    robust = np.bincount(evaluation.labels[evaluation.robust], minlength=len(data.class_names))
    tried = not any(attack.untried for attack in attacks)
    images = []
    for label in present[np.argsort(robust[present] / data.counts[present], kind="stable")][:CLASSES]:
        images += [_fragile(row, data, evaluation, attacks) for row in _most_fragile(evaluation, label)]
        images += [_hard(row, data, evaluation) for row in _hardest(evaluation, label) if tried]
    return tuple(images)


def _most_fragile(evaluation: Evaluation, label: int) -> list[int]:
    rows = np.flatnonzero((evaluation.labels == label) & (evaluation.broken_by != UNBROKEN))
    return _first(rows, np.lexsort((evaluation.clean_margin[rows], evaluation.broken_by[rows])))


def _hardest(evaluation: Evaluation, label: int) -> list[int]:
    rows = np.flatnonzero((evaluation.labels == label) & evaluation.robust)
    return _first(rows, np.argsort(-evaluation.margin[rows], kind="stable"))


def _first(rows: Rows, order: Rows) -> list[int]:
    first: list[int] = rows[order[:IMAGES]].tolist()
    return first


def _fragile(row: int, data: LabelledImages, evaluation: Evaluation, attacks: tuple[AttackRow, ...]) -> GalleryImage:
    return GalleryImage(
        kind="fragile",
        row=row,
        true=data.class_names[evaluation.labels[row]],
        margin=float(evaluation.clean_margin[row]),
        predicted=data.class_names[evaluation.attacked[row]],
        attack=attacks[evaluation.broken_by[row]].name,
        distance=float(evaluation.distance[row]),
        png=picture(data, row),
    )


def _hard(row: int, data: LabelledImages, evaluation: Evaluation) -> GalleryImage:
    return GalleryImage(
        kind="hardest",
        row=row,
        true=data.class_names[evaluation.labels[row]],
        margin=float(evaluation.margin[row]),
        png=picture(data, row),
    )


def picture(data: LabelledImages, row: int) -> str:
    """The image as it is, a PNG in base64: at most SIDE pixels on the longer side, scaled down by averaging areas.

    Three channels are red, green and blue, and so are the first three of four: what the fourth would hide the classifier
    sees too. One channel is grey, and so is the first of two.
    """
    levels = (data.pixels(slice(row, row + 1), torch.device("cpu"))[0] * 255).round().byte().numpy()
    image = Image.fromarray(np.moveaxis(levels[:3], 0, -1) if len(levels) >= 3 else levels[0])
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
