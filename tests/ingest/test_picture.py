"""Tests of pictures that clients send: every format gives what a folder gives, and no file takes long or much memory."""

import io
import struct

import numpy as np
import pytest
from dumps import asymmetric_picture
from hostile_pictures import hostile_files
from PIL import Image

from ingest import picture as picture_module
from ingest.digit import from_digit
from ingest.formats.folder import open_folder
from ingest.image import PictureError, PictureTooLargeError
from ingest.picture import MOST_BYTES, Decoder, read_picture


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(workers=1)
    yield decoder
    decoder.close()


def encode(picture: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def made_pictures() -> dict[str, bytes]:
    """Return a picture of each kind that people have."""
    colours = Image.fromarray(asymmetric_picture()).resize((90, 60), Image.Resampling.BICUBIC)
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    turned = Image.Exif()
    turned[0x0112] = 8
    clear = colours.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    deep = Image.fromarray((np.arange(40 * 40).reshape(40, 40) * 40).astype(np.uint16))
    return {
        **{name.lower(): encode(colours, name) for name in picture_module.FORMATS},
        "turned.jpeg": encode(colours, "JPEG", exif=turned),
        "clear.png": encode(clear), "clear.webp": encode(clear, "WEBP"), "clear.avif": encode(clear, "AVIF"),
        "grey.png": encode(colours.convert("L")), "grey and clear.png": encode(clear.convert("LA")),
        "one bit.png": encode(colours.convert("1")), "16 bits.png": encode(deep),
        "palette.png": encode(colours.quantize(16)), "clear palette.png": encode(colours.quantize(16), transparency=3),
        "cmyk.jpeg": encode(colours.convert("CMYK"), "JPEG"), "progressive.jpeg": encode(colours, "JPEG", progressive=True),
        "moving.gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "moving.webp": encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        "moving.png": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    }  # fmt: skip


def test_every_picture_is_what_a_folder_of_pictures_makes_of_it(decoder, tmp_path):
    made = made_pictures()
    for number, data in enumerate(made.values()):
        (tmp_path / f"{number:02}.png").write_bytes(data)  # by its content, not by its name
    images = open_folder(str(tmp_path)).read(0, len(made)).images
    for (name, data), expected in zip(made.items(), images, strict=True):
        np.testing.assert_array_equal(decoder.read(data), expected, err_msg=name)
        if name.startswith("moving"):
            red, green, blue = expected.reshape(3, 1024)
            assert red.min() > 250 and green.max() < 5 and blue.max() < 5, f"{name}: the first frame"


def test_a_digit_is_read_as_one(decoder):
    paper = np.full((60, 50, 3), 230, np.uint8)
    paper[10:50, 20:26] = 30
    np.testing.assert_array_equal(
        decoder.read(encode(Image.fromarray(paper)), True), from_digit(Image.fromarray(paper))
    )
    with pytest.raises(PictureError):
        decoder.read(encode(Image.new("RGB", (20, 20), "white")), True)


HOSTILE = hostile_files()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(decoder, name):
    with pytest.raises(PictureError) as caught:
        decoder.read(HOSTILE[name])
    assert "\n" not in str(caught.value)


def test_a_file_of_too_many_bytes_is_not_given_to_a_decoder(decoder):
    with pytest.raises(PictureTooLargeError):
        decoder.read(bytes(MOST_BYTES + 1))


def slow_jpeg() -> bytes:
    """Return a progressive JPEG of 200 kB that takes a processor minutes: each of its 2,000 scans goes over all pixels."""
    whole = encode(Image.new("L", (3900, 3900)), "JPEG", progressive=True, quality=10)
    # A scan of one component and the coefficients 1 to 5, of zeros.
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 1, 5, 0]) + bytes(60)
    return whole[:-2] + scan * 2000 + b"\xff\xd9"


@pytest.mark.slow
def test_a_picture_that_takes_a_decoder_too_long_ends_only_that_process(monkeypatch):
    slow = slow_jpeg()
    good = encode(Image.new("RGB", (40, 40), "red"))
    decoder = Decoder(workers=1)
    try:
        with pytest.raises(PictureError, match="takes more than"):
            decoder.read(slow)
        np.testing.assert_array_equal(decoder.read(good), read_picture(good))
    finally:
        decoder.close()


def test_a_process_that_has_ended_is_replaced(decoder):
    good = encode(Image.new("RGB", (40, 40), "red"))
    decoder.read(good)
    worker = decoder._workers.get()
    worker._process.kill()
    worker._process.wait()
    decoder._workers.put(worker)
    with pytest.raises(PictureError):
        decoder.read(good)
    np.testing.assert_array_equal(decoder.read(good), read_picture(good))
