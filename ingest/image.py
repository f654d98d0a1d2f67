"""The canonical image: 32x32 RGB as 3,072 bytes, planes R, G, B, each row-major; all other layouts are converted to it here."""

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from conf.errors import TinyTagsError
from ingest import jpeg
from ingest.png import DamagedPngError, is_png, read_pixel_chunks

Pixels = NDArray[np.uint8]

SIDE = 32
IMAGE_BYTES = 3 * SIDE * SIDE

# The most memory that one picture may take to decode: 128 megapixels of colours in a PNG. A file of some kilobytes may have
# any number of single-coloured pixels, so this is checked before anything is decoded. A JPEG of any camera is decoded at
# 1/8 of its size; only one of several scans (progressive) needs memory for all its pixels, up to 6 bytes each.
MAX_DECODED_BYTES = 512_000_000
MAX_SCANNED_PIXELS = 50_000_000
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which would also refuse JPEGs that take little memory
# Bytes that Pillow keeps for a pixel, where these are not 4, and how many times some decoders have all of them in memory.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
_COPIES = {"WEBP": 4, "AVIF": 3, "TIFF": 2}
# A picture of more pixels than this is made smaller a strip at a time before it is turned or converted, to about this many
# pixels a side, as each of these steps would copy all of it.
LARGE_PIXELS, LARGE_SIDE = 16_000_000, 1024
# A JPEG that was cut off is not read again where it is larger.
_MAX_COMPLETED_BYTES = 100_000_000


class PictureError(ValueError):
    """A file that is no picture, or one too large to decode."""


class PictureTooLargeError(PictureError):
    """A picture of more pixels, or a file of more bytes, than are read."""


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
    turned = _turned(picture)
    if picture.width * picture.height > LARGE_PIXELS:
        picture = _made_smaller(picture)  # which has no metadata
    picture = picture if turned is None else picture.transpose(turned)
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
    turned = _turned(picture)
    return picture if turned is None else picture.transpose(turned)


def _turned(picture: Image.Image) -> Image.Transpose | None:
    # `ImageOps.exif_transpose` also writes the metadata again, and fails where that can't be done.
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises SyntaxError, OSError, struct.error, ValueError, ...
        orientation = None
    return _TURNED.get(orientation) if isinstance(orientation, int) else None


def _made_smaller(picture: Image.Image) -> Image.Image:
    """Return the centre square of a large picture at a whole fraction of its size, in 8 bits, converted a strip at a time."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    factor = max(side // LARGE_SIDE, 1)
    if picture.mode == "F":  # what is white depends on all pixels
        return picture.reduce(factor, (left, top, left + side, top + side))
    smaller: Image.Image | None = None
    for row in range(0, side, 16 * factor):
        rows = min(16 * factor, side - row)
        part = to_8_bits(picture.crop((left, top + row, left + side, top + row + rows))).reduce(factor)
        smaller = smaller or Image.new(part.mode, (part.width, -(-side // factor)))
        smaller.paste(part, (0, row // factor))
    assert smaller is not None
    return smaller


def from_rgb(pixels: Pixels) -> Pixels:
    """Return (32, 32, 3) uint8 pixels as a canonical image, (3072,) uint8."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(IMAGE_BYTES)


def decode_picture(
    file: BinaryIO,
    formats: tuple[str, ...],
    convert: Callable[[Image.Image], Pixels] = from_picture,
    detail: int = 2 * SIDE,
    most_pixels: int | None = None,
) -> Pixels:
    """Return the picture in ``file``, in one of Pillow's ``formats``, as a canonical image, (3072,) uint8.

    Of an animated picture it is the first frame. ``convert`` needs a picture of at least ``detail`` pixels a side.
    A JPEG without its end is read where all its pixels are there. Raises `PictureError`, one line, for a file that can't be decoded, for a
    PNG whose pixels have a wrong checksum, for one that takes more than `MAX_DECODED_BYTES`, and for more than
    ``most_pixels`` as decoded, or `MAX_SCANNED_PIXELS` in a progressive JPEG. A `TinyTagsError` of ``file`` is passed on.
    """
    try:
        return _decode(file, formats, convert, detail, most_pixels)
    except PictureTooLargeError:
        raise
    except PictureError:
        completed = _completions(file) if "JPEG" in formats else None
        if completed is None:
            raise
        first, second = (_decode(io.BytesIO(one), formats, convert, detail, most_pixels) for one in completed)
        if not np.array_equal(first, second):
            raise
        return first


def _completions(file: BinaryIO) -> tuple[bytes, bytes] | None:
    file.seek(0)
    if file.read(2) != jpeg.SIGNATURE:
        return None  # without reading all of it
    data = jpeg.SIGNATURE + file.read(_MAX_COMPLETED_BYTES)
    return jpeg.completions(data) if len(data) < _MAX_COMPLETED_BYTES else None


def _decode(
    file: BinaryIO,
    formats: tuple[str, ...],
    convert: Callable[[Image.Image], Pixels],
    detail: int,
    most_pixels: int | None,
) -> Pixels:
    file.seek(0)
    try:
        source = read_pixel_chunks(file, 2 * MAX_DECODED_BYTES) if "PNG" in formats and is_png(file) else file
        scans = jpeg.has_several_scans(file)
        with Image.open(source, formats=formats) as picture:
            size = f"{picture.width:,} x {picture.height:,} pixels"
            if scans and picture.width * picture.height > MAX_SCANNED_PIXELS:
                raise PictureTooLargeError(f"{size} in several scans are more than {MAX_SCANNED_PIXELS:,}")
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, several times as fast.
            picture.draft(None, (detail, detail))
            pixels = picture.width * picture.height
            if most_pixels is not None and pixels > most_pixels:
                raise PictureTooLargeError(f"{size} are more than {most_pixels:,}")
            needed = pixels * _PIXEL_BYTES.get(picture.mode, 4) * _COPIES.get(picture.format or "", 1)
            if needed > MAX_DECODED_BYTES:
                raise PictureTooLargeError(
                    f"{size} take {needed / 1e6:,.0f} MB to decode, more than {MAX_DECODED_BYTES / 1e6:,.0f} MB; make it smaller"
                )
            picture.load()  # before its metadata is read, whose errors don't count
            return convert(picture)
    except UnidentifiedImageError:
        raise PictureError(_no_picture(file, formats)) from None
    except DamagedPngError as error:
        raise PictureError(f"can't be decoded ({error})") from None
    except PictureError:
        raise
    except TinyTagsError:  # of the source: HDFS doesn't answer, or the file has changed
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
        values, clear = np.asarray(picture).clip(0, 65535), picture.info.get("transparency")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
        if isinstance(clear, int):  # the one grey of a PNG that is transparent, of 16 bits
            picture.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    clear = picture.info.get("transparency")
    if picture.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Of 16 bits, while Pillow keeps the upper 8 of the pixels.
        picture = picture.copy()
        picture.info["transparency"] = tuple(value >> 8 for value in clear)
    if ("A" in picture.mode.upper() and picture.mode != "LAB") or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture as it looks on white paper."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
