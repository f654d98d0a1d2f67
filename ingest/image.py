"""The canonical image: 32x32 RGB as 3,072 bytes, planes R, G, B, each row-major; all other layouts are converted to it here."""

import io
import warnings
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ingest.jpeg import has_several_scans
from ingest.png import DamagedPngError, is_png, read_pixel_chunks

Pixels = NDArray[np.uint8]

SIDE = 32
IMAGE_BYTES = 3 * SIDE * SIDE

# As decoded, 64 MB: a picture of 9000x9000 single-coloured pixels is a file of 10 kB and takes 400 MB. A JPEG of any camera
# is decoded at 1/8 of its size; only one of several scans (progressive) needs memory for all its pixels, up to 6 bytes each.
MAX_PIXELS = 16_000_000
MAX_SCANNED_PIXELS = 50_000_000
# The size in pixels is checked against MAX_PIXELS before anything is decoded, so Pillow's own, later warning is noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureError(ValueError):
    """A file that is no picture, or one too large to decode."""


# What files that are no pictures begin with, and what they are.
_NO_PICTURES = {
    b"version https://git-lfs": "is a pointer of Git LFS; `git lfs pull` fetches the picture",
    b"<!doctype html": "is an HTML page, not a picture; fetch it again",
    b"<html": "is an HTML page, not a picture; fetch it again",
    b"<?xml": "is XML, not a picture",
    b"<svg": "is an SVG drawing, not a picture of pixels",
}
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x112


def from_column_major(images: Pixels, out: Pixels | None = None) -> Pixels:
    """Return (n, 3072) uint8 images whose planes are column-major (MATLAB's order) in the canonical layout.

    Writes into ``out`` of the same shape where given. 80 Million Tiny Images is stored in that order.
    """
    if out is None:
        out = np.empty(images.shape, np.uint8)
    planes = (len(images), 3, SIDE, SIDE)
    # A compiled loop is faster, but splits a dump in 7 % less time only, and takes half a second to import.
    np.copyto(out.reshape(planes), images.reshape(planes).swapaxes(2, 3))
    return out


def to_png(image: Pixels, scale: int = 1) -> bytes:
    """Return a canonical image, (3072,) uint8, as an RGB PNG, each pixel ``scale`` x ``scale`` pixels large."""
    pixels = np.asarray(image, np.uint8).reshape(3, SIDE, SIDE).transpose(1, 2, 0)
    pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def from_picture(picture: Image.Image) -> Pixels:
    """Return any Pillow picture as a canonical image, (3072,) uint8.

    The picture is rotated by its EXIF orientation, and the centre square is cut out and averaged over equal areas down to
    32x32; a smaller one is enlarged by Lanczos' filter. Transparency becomes white. A 32x32 RGB picture comes out with its
    pixels unchanged.
    """
    picture = upright(picture)
    side = min(picture.size)
    if picture.width != picture.height:
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    picture = to_8_bits(picture)
    if side != SIDE:
        area = Image.Resampling.BOX if side > SIDE else Image.Resampling.LANCZOS
        picture = picture.resize((SIDE, SIDE), area)  # weighs colours by their opacity
    return from_rgb(np.asarray(on_white(picture).convert("RGB")))


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture rotated by its EXIF orientation; metadata that can't be read is ignored."""
    # `ImageOps.exif_transpose` also writes the metadata again, and fails where that can't be done.
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises SyntaxError, OSError, struct.error, ValueError, ...
        orientation = None
    turned = _TURNED.get(orientation) if isinstance(orientation, int) else None
    return picture if turned is None else picture.transpose(turned)


def from_rgb(pixels: Pixels) -> Pixels:
    """Return (32, 32, 3) uint8 pixels as a canonical image, (3072,) uint8."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(IMAGE_BYTES)


def decode_picture(
    file: BinaryIO,
    formats: tuple[str, ...],
    convert: Callable[[Image.Image], Pixels] = from_picture,
    detail: int = 2 * SIDE,
) -> Pixels:
    """Return the picture in ``file``, in one of Pillow's ``formats``, as a canonical image, (3072,) uint8.

    Of an animated picture it is the first frame. ``convert`` needs a picture of at least ``detail`` pixels a side.
    Raises `PictureError`, one line, for a file that can't be decoded, for a PNG whose pixels have a wrong checksum, and for
    more than `MAX_PIXELS` pixels as decoded, or `MAX_SCANNED_PIXELS` in a progressive JPEG.
    """
    try:
        source = read_pixel_chunks(file, MAX_PIXELS) if "PNG" in formats and is_png(file) else file
        scans = has_several_scans(file)
        with Image.open(source, formats=formats) as picture:
            width, height = picture.size
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, several times as fast.
            picture.draft(None, (detail, detail))
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(f"{width:,} x {height:,} pixels are more than {MAX_PIXELS:,}")
            if scans and width * height > MAX_SCANNED_PIXELS:
                raise PictureError(
                    f"{width:,} x {height:,} pixels in several scans are more than {MAX_SCANNED_PIXELS:,}"
                )
            picture.load()  # before its metadata is read, whose errors don't count
            return convert(picture)
    except UnidentifiedImageError:
        raise PictureError(_no_picture(file, formats)) from None
    except Image.DecompressionBombError:
        raise PictureError(f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except DamagedPngError as error:
        raise PictureError(f"can't be decoded ({error})") from None
    except PictureError:
        raise
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, ...
        raise PictureError(" ".join(f"can't be decoded ({error})".split())) from error


def _no_picture(file: BinaryIO, formats: tuple[str, ...]) -> str:
    """Return what a file is that isn't a picture."""
    file.seek(0)
    head = file.read(64)
    if not head:
        return "is empty (0 bytes; was it ever downloaded?)"
    start = head.lstrip().lower()
    known = next((what for begin, what in _NO_PICTURES.items() if start.startswith(begin)), None)
    return known or f"is no picture in {', '.join(formats)}"


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of any mode as an L, RGB or, where it may be transparent, RGBA one."""
    if picture.mode == "F":
        # Floating-point TIFFs hold either 0..1 or 0..255.
        values = np.nan_to_num(np.asarray(picture), nan=0.0, posinf=255.0, neginf=0.0)
        values = values * 255 if values.max(initial=0) <= 1 else values
        picture = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif picture.mode == "I" or picture.mode.startswith("I;16"):
        # Pillow's own conversion cuts 16-bit greys off at 255.
        values = np.asarray(picture).clip(0, 65535)
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    if ("A" in picture.mode.upper() and picture.mode != "LAB") or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture as it looks on white paper."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
