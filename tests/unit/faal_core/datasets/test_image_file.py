"""Image files: their levels, conversions with their notes, and files that are refused because information would be lost."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faal_core import datasets
from faal_core.datasets import Reading, Resizing
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import DatasetInvalid, InvalidSpec
from faal_core.torchvision_import import torchvision
from tests.unit.faal_core.datasets.test_image_folder import write_folder, write_zip

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = LEVELS[..., 0]


def encode(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the picture as a file."""
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def encode_png(
    colour: int, depth: int, rows: np.ndarray, *chunks: tuple[bytes, bytes], first: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Return a PNG of that colour type and bit depth, with those chunks before its pixels.

    Args:
        rows: the bytes of each row.
    """
    header = struct.pack(">IIBBBBB", 8, 6, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (*first, (b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def load_files(folder: Path, *files: tuple[str, bytes], reading: Reading | None = None) -> LabelledImages:
    """Return a data set of those files, one class each."""
    return datasets.load(
        write_zip(folder, {f"{n}/{name}": file for n, (name, file) in enumerate(files)}), "test", reading=reading
    )


RGB_PNG, GREY_PNG = ("x.png", encode(Image.fromarray(LEVELS))), ("x.png", encode(Image.fromarray(GREY)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.png", encode_png(2, 16, LEVELS.astype(">u2") * 16)),
        ("x.png", encode_png(0, 16, GREY.astype(">u2") * 16)),
        ("x.png", encode_png(6, 16, np.full((6, 8, 4), 4095, ">u2"))),
        ("x.png", encode_png(4, 16, np.full((6, 8, 2), 4095, ">u2"))),
        ("x.png", encode_png(2, 16, LEVELS.astype(">u2") * 16, first=((b"tEXt", b"Title\0eight bits"),))),
        ("x.ppm", b"P6\n8 6\n65535\n" + (LEVELS.astype(">u2") * 16).tobytes()),
        ("x.ppm", b"P6 # by hand\n8 6 # columns, rows\n4095\n" + (LEVELS.astype(">u2") * 16).tobytes()),
        ("x.pgm", b"P5 8 6 65535 " + (GREY.astype(">u2") * 16).tobytes()),
        ("x.pgm", ("P2\n8 6\n1023\n" + " ".join(str(4 * level) for level in GREY.ravel().tolist())).encode()),
        ("x.ppm", b"P6\n#" + b"x" * 5000 + b"\n8 6\n1000\n" + (LEVELS.astype(">u2") * 3).tobytes()),
        ("x.ppm", b"P6 8 6 10#\n00 " + (LEVELS.astype(">u2") * 3).tobytes()),
        ("x.ppm", ("P3\n8 6\n1023\n" + " ".join(str(4 * level) for level in LEVELS.ravel().tolist())).encode()),
        ("x.ppm", b"PyCMYK 8 6 1000 " + np.full((6, 8, 4), 300, ">u2").tobytes()),
        ("x.ppm", b"Pf 8 6 -1.0 " + GREY.astype("<f4").tobytes()),
    ],
    ids=[
        *("rgb", "grey", "rgba", "grey-alpha", "header not first", "ppm", "ppm with comments", "pgm", "plain pgm"),
        *("ppm with a long comment", "ppm with a comment in its maxval", "plain ppm", "cmyk", "floats"),
    ],
)
def test_more_than_eight_bits_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    """Files of more than 8 bits a channel, which Pillow would cut to 8, are refused by name."""
    with pytest.raises(DatasetInvalid, match=f"0/{name} has more than 8 bits a channel"):
        load_files(tmp_path, (name, content), RGB_PNG)


def test_ppm_of_eight_bits_is_read(tmp_path: Path) -> None:
    """A PPM of 256 levels keeps its levels, whatever bytes its pixels begin with."""
    data = load_files(
        tmp_path, ("x.ppm", b"P6 8 6 255\n" + LEVELS.tobytes()), ("x.ppm", b"P6 8 6 255\n" + (b"# 9 9 " * 24))
    )
    assert np.array_equal(data.images[0].numpy(), LEVELS.transpose(2, 0, 1))


def encode_animation(kind: str) -> bytes:
    """Return a file of two frames."""
    frames = [Image.fromarray(LEVELS), Image.fromarray(255 - LEVELS)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(("name", "kind"), [("x.png", "PNG"), ("x.webp", "WEBP")])
def test_animations_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    """A file of several frames, of which Pillow would silently read one, is refused with their number."""
    with pytest.raises(DatasetInvalid, match=f"0/{name} is animated and has 2 frames"):
        load_files(tmp_path, (name, encode_animation(kind)), RGB_PNG)


def test_a_cameras_second_picture_is_left_out_and_said(tmp_path: Path) -> None:
    """Of a JPEG with previews behind its picture, the picture is read, and the report says so."""
    pictures = [Image.fromarray(LEVELS), Image.fromarray(255 - LEVELS)]
    several, alone = (
        encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:]),
        encode(pictures[0], "JPEG"),
    )
    data = load_files(tmp_path, ("x.jpg", several), ("x.jpg", alone))
    assert np.array_equal(data.images[0].numpy(), data.images[1].numpy())
    assert data.preparation == ("1 JPEG files with several pictures: the first was used.",)


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (Image.fromarray(np.dstack([LEVELS, GREY])), {}),
        (Image.fromarray(np.dstack([GREY, GREY]), "LA"), {}),
        (Image.fromarray(LEVELS), {"transparency": tuple(LEVELS[0, 0].tolist())}),
        (Image.fromarray(GREY), {"transparency": int(GREY[0, 0])}),
        (Image.fromarray(LEVELS).convert("P", palette=Image.Palette.ADAPTIVE), {"transparency": 0}),
    ],
    ids=["RGBA", "LA", "tRNS in RGB", "tRNS in grey", "tRNS in palette"],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_transparent_pixels_are_refused(picture: Image.Image, options: dict[str, object], tmp_path: Path) -> None:
    """Transparent pixels are refused, however the file marks them, because their background is unknown."""
    with pytest.raises(DatasetInvalid, match=r"0/x\.png has mode .*transparent"):
        load_files(tmp_path, ("x.png", encode(picture, **options)), RGB_PNG)


def add_opaque_alpha(levels: np.ndarray) -> bytes:
    """Return the levels with an alpha channel of 255."""
    return encode(Image.fromarray(np.dstack([levels, np.full((6, 8), 255, np.uint8)])))


def make_palette() -> Image.Image:
    """Return a palette picture with every colour of LEVELS."""
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert("P")
    picture.putpalette(LEVELS.reshape(-1).tolist())
    return picture


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (add_opaque_alpha(LEVELS), "1 images without their alpha channel, which was opaque everywhere."),
        (encode(make_palette()), "1 palette images as RGB."),
    ],
    ids=["opaque", "palette"],
)
def test_lossless_conversions_are_made_and_said(content: bytes, note: str, tmp_path: Path) -> None:
    """Files with an opaque alpha channel or a palette keep their colours as levels, and the report names the conversion."""
    data = load_files(tmp_path, ("x.png", content), RGB_PNG)
    assert np.array_equal(data.images[0].numpy(), LEVELS.transpose(2, 0, 1))
    assert data.summarise().preparation == (note,)


def test_black_and_white_is_grey(tmp_path: Path) -> None:
    """Images of one bit have the levels 0 and 255."""
    bits = GREY > 127
    data = load_files(tmp_path, ("x.png", encode(Image.fromarray(bits))), GREY_PNG)
    assert np.array_equal(data.images[0, 0].numpy(), 255 * bits.astype(np.uint8))
    assert data.preparation == ("1 black-and-white images as grey levels 0 and 255.",)


@pytest.mark.parametrize("grey_first", [True, False])
def test_grey_beside_rgb_gets_three_channels(grey_first: bool, tmp_path: Path) -> None:
    """Grey images beside RGB ones get three equal channels, in whatever order they come; the report counts them."""
    files = [GREY_PNG, RGB_PNG] if grey_first else [RGB_PNG, GREY_PNG]
    data = load_files(tmp_path, *files)
    grey, colour = (0, 1) if grey_first else (1, 0)
    assert np.array_equal(data.images[grey].numpy(), np.stack([GREY] * 3))
    assert np.array_equal(data.images[colour].numpy(), LEVELS.transpose(2, 0, 1))
    assert data.preparation == ("1 grey images as RGB with three equal channels.",)
    assert load_files(tmp_path, GREY_PNG, GREY_PNG).images.shape == (2, 1, 6, 8)


def test_cmyk_is_converted_as_pillow_does(tmp_path: Path) -> None:
    """CMYK becomes RGB as in torchvision's image loader, and the report says so."""
    content = encode(Image.fromarray(LEVELS).convert("CMYK"), "JPEG", quality=95)
    data = load_files(tmp_path, ("x.jpg", content), RGB_PNG)
    assert np.array_equal(
        data.images[0].numpy(), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    )
    assert data.preparation == ("1 CMYK images converted to RGB by Pillow, without a colour profile.",)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("name", "kind"), [("x.png", "PNG"), ("x.webp", "WEBP")])
def test_images_are_turned_upright(orientation: int, name: str, kind: str, tmp_path: Path) -> None:
    """A photograph is turned as its EXIF orientation says (table of the EXIF standard), and the report counts it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(LEVELS), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    data = load_files(tmp_path, (name, content), (name, content))
    assert np.array_equal(data.images[0].numpy().transpose(1, 2, 0), UPRIGHT[orientation](LEVELS))
    assert data.preparation == ("2 images turned upright by their EXIF orientation.",)


def test_usual_images_get_no_note(tmp_path: Path) -> None:
    """An image that needs no conversion gets no note."""
    assert load_files(tmp_path, RGB_PNG, RGB_PNG).preparation == ()


@pytest.mark.parametrize(("resize", "crop"), [((12,), ()), ((5, 7), ()), ((12,), (9, 9)), ((), (4, 4)), ((), (20, 20))])
def test_resizing_is_torchvisions(resize: tuple[int, ...], crop: tuple[int, ...], tmp_path: Path) -> None:
    """Resized and cropped images are those of torchvision's Resize and CenterCrop on Pillow images."""
    steps = []
    if resize:
        steps.append(torchvision.transforms.Resize(resize[0] if len(resize) == 1 else resize))
    if crop:
        steps.append(torchvision.transforms.CenterCrop(crop))
    expected = np.asarray(torchvision.transforms.Compose(steps)(Image.fromarray(LEVELS))).transpose(2, 0, 1)
    data = load_files(tmp_path, RGB_PNG, RGB_PNG, reading=Reading(Resizing(resize, crop)))
    assert np.array_equal(data.images[1].numpy(), expected)
    assert len(data.preparation) == bool(resize) + bool(crop)
    assert data.sha256 != load_files(tmp_path, RGB_PNG, RGB_PNG).sha256


def test_images_of_different_sizes_meet(tmp_path: Path) -> None:
    """Images of any size are read if resizing and cropping give them one size; otherwise the error names both sizes."""
    wide = ("x.png", encode(Image.fromarray(np.tile(LEVELS, (1, 3, 1)))))
    with pytest.raises(
        DatasetInvalid, match=r"1/x\.png is 24 × 6 RGB, 0/x\.png is 8 × 6 RGB; all must have one size"
    ) as error:
        load_files(tmp_path, RGB_PNG, wide)
    assert error.value.remedy == "resize"
    with pytest.raises(DatasetInvalid, match="16 × 4 RGB"):
        load_files(tmp_path, RGB_PNG, wide, reading=Reading(Resizing((4,))))
    assert load_files(tmp_path, RGB_PNG, wide, reading=Reading(Resizing((4,), (4, 4)))).images.shape == (2, 3, 4, 4)


def test_photographs_of_a_camera_are_resized(tmp_path: Path) -> None:
    """A photograph of 24 megapixels is read and resized."""
    photograph = ("x.png", encode(Image.new("RGB", (6000, 4000), (9, 8, 7))))
    data = load_files(tmp_path, photograph, RGB_PNG, reading=Reading(Resizing((4, 6))))
    assert data.images[0].flatten(1).unique(dim=1).squeeze(1).tolist() == [9, 8, 7]


def test_a_strip_is_not_blown_up(tmp_path: Path) -> None:
    """A strip whose resized picture would take gigabytes is refused before resizing."""
    strip = ("x.png", encode(Image.new("L", (2**18, 1))))
    with pytest.raises(DatasetInvalid, match=r"x\.png has 262144 × 1 pixels, and 256 × 67108864 after resizing"):
        load_files(tmp_path, strip, strip, reading=Reading(Resizing((256,))))


def test_arrays_have_no_files_to_resize(tmp_path: Path) -> None:
    """Resizing arrays or a named data set raises an error."""
    np.savez(tmp_path / "set.npz", images=GREY[None].repeat(2, 0), labels=[0, 1])
    for ref in (str(tmp_path / "set.npz"), "fashion-mnist-subset"):
        with pytest.raises(InvalidSpec, match="has no image files"):
            datasets.load(ref, "test", reading=Reading(Resizing((4,))))


def test_masks_and_cast_floats_are_refused(tmp_path: Path) -> None:
    """Images with the levels 0 and 1 alone, nearly black, are refused."""
    dark = ("x.png", encode(Image.fromarray(GREY // 128)))
    with pytest.raises(DatasetInvalid, match="levels 0 and 1 alone"):
        load_files(tmp_path, dark, dark)


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    """A link to itself is an error that names it."""
    folder = Path(write_folder(tmp_path, {"a/1.png": RGB_PNG[1], "b/1.png": RGB_PNG[1]}))
    loop = folder / "b/2.png"
    loop.symlink_to(loop)
    with pytest.raises(DatasetInvalid, match=r"2\.png"):
        datasets.load(str(folder), "test")
