"""One image file: decoded without losing levels, turned upright, converted where that is lossless, and resized on request.

Pillow decodes some files to fewer levels, frames or channels than they have. Those files are rejected by name. Conversions are
counted for the report.
"""

import io
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from faal_core.errors import DatasetInvalid
from faal_core.errors.memory_exhaustion import require_memory

MAX_PIXELS = 2**25  # in a file, and after resizing: photographs have up to 24 million; 2**25 take 128 MiB with alpha
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
_TRANSPARENT = ("RGBA", "LA", "PA")


@dataclass(frozen=True, slots=True)
class Resizing:
    """How images are brought to one size: resized, then cropped, by torchvision's functions on Pillow images.

    Args:
        resize: as `torchvision.transforms.Resize`: one number is the shorter side, two are height and width; bilinear with
            antialiasing.
        crop: as `torchvision.transforms.CenterCrop`: one number is height and width; smaller images get black borders.
    """

    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each step that is applied to every image."""
        notes = []
        if self.resize:
            side = "shorter side" if len(self.resize) == 1 else "height and width"
            notes.append(
                f"Resized to {_format_sides(self.resize)} pixels ({side}; torchvision's resize, bilinear, antialiased)."
            )
        if self.crop:
            notes.append(f"Cropped to the central {_format_sides(self.crop)} pixels (torchvision's center_crop).")
        return tuple(notes)

    def scale_sides(self, width: int, height: int) -> tuple[int, int]:
        """Return the sides of an image of that size after resizing and before cropping, the shorter one first."""
        shorter, longer = sorted((width, height))
        match self.resize:
            case ():
                return shorter, longer
            case (side,):
                return side, side * longer // shorter
        one, other = sorted(self.resize)
        return one, other

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the image at its new size."""
        if not self.resize and not self.crop:
            return image
        from faal_core.torchvision_import import torchvision  # takes a second to import

        functional = torchvision.transforms.functional
        if self.resize:
            image = functional.resize(image, list(self.resize))
        if self.crop:
            image = functional.center_crop(image, list(self.crop))
        return image


def _format_sides(sides: tuple[int, ...]) -> str:
    """Return the sides in words."""
    return " × ".join(str(side) for side in sides)


@dataclass(slots=True)
class Decoder:
    """Decodes image files and counts conversions.

    Args:
        resizing: is applied to each image.
        conversions: the number of images by conversion.
    """

    resizing: Resizing = field(default_factory=Resizing)
    conversions: Counter[str] = field(default_factory=Counter)

    def decode(self, name: str, content: bytes) -> np.ndarray:
        """Return the levels of the image file of that name, c × h × w, uint8, grey or RGB.

        The image's size is checked before it is unpacked. Raises: DatasetInvalid where it cannot be decoded without loss.
        """
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                self._require_room(name, image)
                self._require_lossless(name, image)
                levels = np.asarray(self.resizing.apply(self.convert_to_grey_or_rgb(name, self._turn_upright(image))))
        except DatasetInvalid:
            raise
        except UnidentifiedImageError:
            formats = ", ".join(FORMATS)
            raise DatasetInvalid(f"{name} cannot be decoded: its content is none of {formats}.") from None
        except Exception as error:  # noqa: BLE001 - a damaged image can raise anything in a decoder
            require_memory(error, f"to decode {name}")
            raise DatasetInvalid(f"{name} cannot be decoded: {str(error)[:200]}") from None
        return levels[np.newaxis] if levels.ndim == 2 else levels.transpose(2, 0, 1)

    def convert_to_grey_or_rgb(self, name: str, image: Image.Image) -> Image.Image:
        """Return the image in mode L or RGB. Raises: DatasetInvalid where the conversion would lose information."""
        if image.mode in _TRANSPARENT or "transparency" in image.info:
            opaque = image.convert("RGBA")
            if opaque.getchannel("A").getextrema()[0] != 255:
                raise DatasetInvalid(
                    f"{name} has mode {image.mode}; convert it to grey (L) or RGB: some of its pixels are transparent, and their "
                    "background is unknown."
                )
            self.conversions["images without their alpha channel, which was opaque everywhere"] += 1
            return opaque.convert("L" if image.mode in ("L", "LA") else "RGB")
        if image.mode in ("L", "RGB"):
            return image
        if image.mode == "1":
            self.conversions["black-and-white images as grey levels 0 and 255"] += 1
            return image.convert("L")
        if image.mode == "P":
            self.conversions["palette images as RGB"] += 1
            return image.convert("RGB")
        if image.mode == "CMYK":
            self.conversions["CMYK images converted to RGB by Pillow, without a colour profile"] += 1
            return image.convert("RGB")
        raise DatasetInvalid(f"{name} has mode {image.mode}; convert it to grey (L) or RGB with 8 bits a channel.")

    @property
    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each conversion and each step of resizing."""
        counted = [f"{count:,} {conversion}." for conversion, count in sorted(self.conversions.items())]
        return (*counted, *self.resizing.notes)

    def _require_room(self, name: str, image: Image.Image) -> None:
        """Check that the image has at most `MAX_PIXELS`, before and after resizing. Raises: DatasetInvalid."""
        size = f"{name} has {image.width} × {image.height} pixels"
        if image.width * image.height > MAX_PIXELS:
            raise DatasetInvalid(f"{size}; at most {MAX_PIXELS:,} are read.")
        sides = self.resizing.scale_sides(image.width, image.height)
        if sides[0] * sides[1] > MAX_PIXELS:
            raise DatasetInvalid(f"{size}, and {_format_sides(sides)} after resizing; at most {MAX_PIXELS:,} are read.")

    def _require_lossless(self, name: str, image: Image.Image) -> None:
        """Check that decoding loses no levels or frames. Raises: DatasetInvalid."""
        if _has_more_than_8_bits(image):
            raise DatasetInvalid(
                f"{name} has more than 8 bits a channel, which decoding would cut to 8. Convert it to 8 bits, or pass the "
                "images as floats in an .npz file."
            )
        frames = getattr(image, "n_frames", 1)
        if image.format == "MPO":  # a camera's JPEG: previews and depth follow the picture
            self.conversions["JPEG files with several pictures: the first was used"] += 1
        elif frames > 1:
            raise DatasetInvalid(f"{name} is animated and has {frames} frames; store one frame instead.")

    def _turn_upright(self, image: Image.Image) -> Image.Image:
        """Return the image turned as its EXIF orientation says."""
        if image.getexif().get(ExifTags.Base.Orientation) not in range(2, 9):
            return image
        upright: Image.Image = ImageOps.exif_transpose(image)
        self.conversions["images turned upright by their EXIF orientation"] += 1
        return upright


def _has_more_than_8_bits(image: Image.Image) -> bool:
    """Return whether the file has more than 8 bits a channel, whatever the mode that Pillow decodes it to.

    The arguments of Pillow's decoder show it: a raw mode such as "RGB;16B", or the maxval of a PGM or PPM file. PNG and PPM
    files without such arguments count as having more.
    """
    if image.format not in ("PNG", "PPM"):
        return image.mode.startswith(("I", "F"))
    match getattr(image, "tile", None):
        case [(_, _, _, str(raw_mode))]:
            return image.mode.startswith("I") or "16" in raw_mode
        case [(_, _, _, (str(), int(highest_level)))]:
            return highest_level > 255
    return True
