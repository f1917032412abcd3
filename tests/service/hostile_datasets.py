"""Hostile data sets: the cases, and how each is refused."""

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from zipfile import ZIP_DEFLATED

import numpy as np

from tests.service.hostile_files import (
    FOLDERS,
    IMAGES,
    LABELS,
    Hostile,
    folders,
    folders_with_link,
    half_an_image,
    huge_png,
    names,
    npy,
    npz,
    npz_members,
    png,
    zip_archive,
)
from tests.service.hostile_pickles import Command

MARKUP = "<img src=x onerror=alert(1)>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def _dataset(name: str, content: Callable[[Path], bytes], reason: str) -> Hostile:
    return Hostile(name, "/datasets", "dataset-invalid", content, reason=reason)


def _up_to(canary: Path) -> str:
    """Return the canary as a member's name that escapes from a folder of any depth."""
    return "../" * 20 + str(canary)[1:]


def _unread(name: str, content: bytes) -> Hostile:
    return Hostile(name, "/datasets", "unsupported-file", lambda _: content, status=415)


_ARRAYS = [
    _dataset(
        "array-of-objects",
        lambda c: npz(images=np.array([Command(c)] * 6)),
        "images cannot be read as an array: it holds Python objects",
    ),
    _dataset(
        "array-that-is-a-pickle",
        lambda c: npz_members({"images.npy": pickle.dumps(Command(c))}),
        "images cannot be read as an array",
    ),
    _dataset(
        "trillion-pixels",
        lambda _: npz_members({"images.npy": npy("(6, 8, 1000000000000)", bytes(9))}),
        "cannot be read as an array: it states shape",
    ),
    _dataset(
        "array-header-of-4-GB",
        lambda _: npz_members({"images.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{"}),
        "images cannot be read as an array",
    ),
    _dataset(
        "array-bomb", lambda _: npz_members({"images.npy": bytes(128 * 2**20)}, ZIP_DEFLATED), "more than 200 times"
    ),
    _dataset("labels-out-of-range", lambda _: npz(labels=LABELS * 10**4), "labels span 0 to 20000"),
    _dataset(
        "groups-of-objects",
        lambda c: npz(group_camera=np.array([Command(c)] * 6)),
        "group_camera cannot be read as an array",
    ),
    _dataset(
        "trillion-empty-strings",
        lambda _: npz_members({"group_camera.npy": npy("(1000000000000,)", b"", "<U0")}),
        "group_camera cannot be read as an array: its elements have no bytes",
    ),
    _dataset("groups-that-move-the-cursor", lambda _: npz(group_camera=np.array(["\x1b[2J"] * 6)), "control character"),
    _dataset("labels-negative", lambda _: npz(labels=LABELS - 1), "labels span -1 to 1"),
    _dataset("labels-fractions", lambda _: npz(labels=LABELS / 2), "whole numbers"),
    _dataset("images-not-a-number", lambda _: npz(images=np.full((6, 8, 8), np.nan)), "pixel values are NaN"),
    _dataset(
        "array-leads-out", lambda c: npz_members({f"{_up_to(c)}.npy": npy("(1,)", b"x")}), "leads out of the archive"
    ),
    _dataset("class-of-half-a-character", lambda _: npz(class_names=names(0xD800, 65, 66)), "control character"),
]

_FOLDERS = [
    _dataset(
        "archive-in-archive", lambda _: zip_archive({f"{MARKUP}.zip": folders({})}), "is an archive, not an image"
    ),
    _dataset("image-leads-out", lambda c: folders({_up_to(c): png()}), "leads out of the archive"),
    _dataset("image-from-the-root", lambda c: folders({str(c): png()}), "leads out of the archive"),
    _dataset("link-to-a-secret", lambda _: folders_with_link("/etc/passwd"), "'cat/9.png' is a link"),
    _dataset("folder-bomb", lambda _: folders({"cat/9.png": bytes(128 * 2**20)}, ZIP_DEFLATED), "more than 200 times"),
    _dataset(
        "hundred-thousand-files",
        lambda _: folders({f"cat/{i}": b"" for i in range(10**5)}),
        "cat/0 is not a supported image",
    ),
    _dataset("pixel-bomb", lambda _: folders({"cat/9.png": huge_png(50_000)}), "50000 × 50000|Image size"),
    _dataset("truncated-image", lambda _: folders({"cat/9.png": half_an_image()}), "cat/9.png cannot be decoded"),
    _dataset("svg-as-png", lambda _: folders({"cat/9.png": SVG}), "its content is none of PNG"),
    _dataset("gif-as-png", lambda _: folders({"cat/9.png": png(kind="GIF")}), "its content is none of PNG"),
    _dataset("class-of-control-characters", lambda _: folders({"\x1b[2J\n/9.png": png()}), "control character"),
]

_NO_ARCHIVES = [
    _unread("svg-as-data-set", SVG),
    _unread("lone-array", npy("(1,)", b"x")),
    _unread("pickle-as-data-set", pickle.dumps({"images": 1})),
]

DATASETS = _ARRAYS + _FOLDERS + _NO_ARCHIVES

ODD_DATASET = "markup-and-formulas-as-classes"
ODD_NAMES = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "@SUM(1+1)*cmd")

ACCEPTED: Mapping[str, tuple[Callable[[], bytes], tuple[str, ...]]] = MappingProxyType(
    {
        ODD_DATASET: (
            lambda: npz(
                images=np.tile(IMAGES, (10, 1, 1)), labels=np.tile(LABELS, 10), class_names=np.array(ODD_NAMES)
            ),
            ODD_NAMES,
        ),
        "folders-alike-but-for-case": (
            lambda: zip_archive({**FOLDERS, **{f"{name}/1.png": png(200) for name in ("CAT", "=cmd()", MARKUP)}}),
            (MARKUP, "=cmd()", "CAT", "ape", "cat"),
        ),
    }
)
"""Data sets with odd names that break no rule: what is uploaded, and the classes it has."""
