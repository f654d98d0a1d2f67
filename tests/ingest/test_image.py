"""The canonical image and the ways to it from column-major pixels and from pictures."""

import io
import struct
import zlib

import numpy as np
import pytest
from dumps import assert_upright, asymmetric_picture, make_images
from PIL import Image

import ingest.image
from conf.errors import TinyTagsError
from ingest.image import (
    PictureError,
    PictureTooLargeError,
    decode_picture,
    from_column_major,
    from_picture,
    to_png,
)


def encode(picture: Image.Image, format: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, format, **options)
    file.seek(0)
    return file


def colours(image: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, image.reshape(3, 1024).T.tolist()))


def test_column_major_pixels_come_out_upright_with_their_colours():
    column_major = asymmetric_picture().transpose(2, 1, 0).reshape(1, 3072)
    assert_upright(from_column_major(np.ascontiguousarray(column_major))[0])


def test_column_major_pixels_can_be_written_into_a_part_of_an_array():
    images = make_images(5)
    out = np.zeros((9, 3072), np.uint8)
    from_column_major(images, out[2:7])
    np.testing.assert_array_equal(out[2:7].reshape(5, 3, 32, 32), images.reshape(5, 3, 32, 32).swapaxes(2, 3))
    assert not out[:2].any() and not out[7:].any()


@pytest.mark.parametrize("scale", [1, 4])
def test_a_png_shows_the_picture_upright_in_the_scale_of_the_request(scale):
    png = Image.open(io.BytesIO(to_png(make_images(1)[0], scale)))
    assert png.size == (32 * scale, 32 * scale) and png.mode == "RGB"
    pixels = np.asarray(png)
    np.testing.assert_array_equal(pixels[::scale, ::scale], asymmetric_picture())
    np.testing.assert_array_equal(pixels[scale - 1 :: scale, scale - 1 :: scale], asymmetric_picture())


def test_a_picture_of_32x32_keeps_its_pixels():
    assert_upright(from_picture(Image.fromarray(asymmetric_picture())))


def test_a_picture_that_was_taken_with_the_camera_turned_comes_out_upright():
    turned = Image.fromarray(asymmetric_picture()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    assert_upright(decode_picture(encode(turned, exif=exif), ("PNG",)))


def test_the_centre_square_of_a_wide_and_of_a_high_picture_is_taken():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = (0, 0, 255)
    assert colours(from_picture(Image.fromarray(wide))) == {(0, 0, 255)}
    assert colours(from_picture(Image.fromarray(wide.swapaxes(0, 1).copy()))) == {(0, 0, 255)}


def test_pictures_of_other_sizes_are_resized_to_32x32():
    large = Image.fromarray(asymmetric_picture().repeat(10, 0).repeat(10, 1))
    difference = from_picture(large).astype(int) - from_picture(Image.fromarray(asymmetric_picture()))
    assert np.abs(difference).mean() < 4
    assert colours(from_picture(Image.new("RGB", (1, 1), (10, 20, 30)))) == {(10, 20, 30)}
    assert colours(from_picture(Image.new("RGB", (1, 5000), (10, 20, 30)))) == {(10, 20, 30)}


def test_transparent_pixels_become_white_and_half_transparent_ones_half_as_strong():
    assert colours(from_picture(Image.new("RGBA", (32, 32), (200, 0, 0, 0)))) == {(255, 255, 255)}
    assert colours(from_picture(Image.new("LA", (32, 32), (0, 0)))) == {(255, 255, 255)}
    ((red, green, blue),) = colours(from_picture(Image.new("RGBA", (64, 64), (255, 0, 0, 128))))
    assert red == 255 and green == blue == pytest.approx(127, abs=1)
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert colours(decode_picture(encode(palette, transparency=1), ("PNG",))) == {(255, 255, 255)}


def test_palettes_greys_bits_and_print_colours_become_rgb():
    palette = Image.fromarray(asymmetric_picture()).quantize(8)
    assert colours(from_picture(palette)) == set(
        map(tuple, np.asarray(palette.convert("RGB")).reshape(-1, 3).tolist())
    )
    assert colours(from_picture(Image.new("L", (32, 32), 77))) == {(77, 77, 77)}
    assert colours(from_picture(Image.new("1", (32, 32), 1))) == {(255, 255, 255)}
    assert colours(from_picture(Image.new("CMYK", (32, 32), (0, 255, 255, 0)))) == {(255, 0, 0)}


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (128 * 256, 128), (65535, 255)])
def test_greys_of_16_bits_keep_their_brightness(value, grey):
    picture = Image.fromarray(np.full((32, 32), value, np.uint16))
    assert colours(from_picture(picture)) == {(grey, grey, grey)}
    assert colours(decode_picture(encode(picture), ("PNG",))) == {(grey, grey, grey)}
    assert colours(decode_picture(encode(picture, "TIFF"), ("TIFF",))) == {(grey, grey, grey)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 2_200])  # in one step, and a strip at a time
def test_the_transparent_colour_of_a_png_of_16_bits_becomes_white(channels, size, monkeypatch):
    monkeypatch.setattr(ingest.image, "LARGE_PIXELS", 4_000_000)
    rows = np.full((size, size, channels), 30_000, ">u2")
    rows[: size // 2] = 1234
    header = struct.pack(">IIBBBBB", size, size, 16, 0 if channels == 1 else 2, 0, 0, 0)
    lines = np.concatenate([np.zeros((size, 1), np.uint8), rows.reshape(size, -1).view(np.uint8)], axis=1)
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", 1234) * channels),
        (b"IDAT", zlib.compress(lines.tobytes(), 1)),
        (b"IEND", b""),
    ):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    image = decode_picture(io.BytesIO(file), ("PNG",)).reshape(3, 32, 32)
    assert set(image[:, :15].ravel()) == {255} and set(image[:, 17:].ravel()) == {30_000 >> 8}


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floating_point_greys_are_taken_as_0_to_1_or_0_to_255(top):
    half = np.full((32, 32), top, np.float32)
    half[:16] = 0
    assert colours(from_picture(Image.fromarray(half))) == {(0, 0, 0), (255, 255, 255)}


def test_a_large_jpeg_decoded_at_a_fraction_of_its_size_is_the_same():
    large = Image.fromarray(asymmetric_picture()).resize((800, 800), Image.Resampling.BICUBIC)
    fast = decode_picture(encode(large, "JPEG", quality=95), ("JPEG",))
    exact = from_picture(Image.open(encode(large, "JPEG", quality=95)))
    assert np.abs(fast.astype(int) - exact).mean() < 2


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded():
    file = encode(Image.new("1", (9000, 9000)))
    assert len(file.getvalue()) < 20_000
    # The same with a header that claims more than Pillow itself would open.
    header = b"IHDR" + struct.pack(">2I", 60_000, 60_000) + file.getvalue()[24:29]
    enlarged = file.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + file.getvalue()[33:]
    with pytest.raises(PictureTooLargeError, match=r"9,000 x 9,000 pixels are more than 16,000,000"):
        decode_picture(file, ("PNG",), most_pixels=16_000_000)
    with pytest.raises(
        PictureTooLargeError, match=r"60,000 x 60,000 pixels take 3,600 MB to decode, more than 512 MB"
    ):
        decode_picture(io.BytesIO(enlarged), ("PNG",))


def test_a_scan_of_20_megapixels_is_read(monkeypatch):
    for mode, colour in (("L", 90), ("P", 0)):
        decoded = decode_picture(encode(Image.new(mode, (5000, 4000), colour)), ("PNG",))
        assert colours(decoded) == {(colour, colour, colour)}
    monkeypatch.setattr("ingest.image.MAX_DECODED_BYTES", 1_000_000)
    webp = encode(Image.new("RGB", (300, 300)), "WEBP")  # its decoder has every pixel in memory four times
    with pytest.raises(PictureTooLargeError):
        decode_picture(webp, ("WEBP",))
    decode_picture(encode(Image.new("RGB", (300, 300))), ("PNG",))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_large_picture_of_any_mode_comes_out_as_a_small_one(mode, monkeypatch):
    picture = Image.fromarray(asymmetric_picture()).resize((700, 500), Image.Resampling.BICUBIC)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    if mode in ("I;16", "I"):
        dtype = np.uint16 if mode == "I;16" else np.int32
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(dtype) * 257)
    picture = picture.quantize(32) if mode == "P" else picture.convert(mode)
    turned = Image.Exif()
    turned[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "TIFF", exif=turned)
    expected = decode_picture(file, ("TIFF",)).astype(int)
    monkeypatch.setattr("ingest.image.LARGE_PIXELS", 1000)
    monkeypatch.setattr("ingest.image.LARGE_SIDE", 70)
    difference = np.abs(decode_picture(file, ("TIFF",)) - expected)
    assert difference.mean() < 2


JPEGS = {"plain": {}, "progressive": {"progressive": True}, "with restarts": {"restart_marker_blocks": 2}}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_is_read_where_it_has_all_pixels_and_refused_where_not(options):
    noise = np.random.default_rng(0).integers(0, 256, (33, 33, 3), np.uint8)
    whole = encode(Image.fromarray(noise), "JPEG", quality=20, **options).getvalue()
    expected = decode_picture(io.BytesIO(whole), ("JPEG",))
    for cut in (whole[:-1], whole[:-2], whole[:-2] + bytes(1000)):
        np.testing.assert_array_equal(decode_picture(io.BytesIO(cut), ("JPEG",)), expected)
    refused = 0
    for length in range(2, len(whole) - 2):
        try:
            decoded = decode_picture(io.BytesIO(whole[:length]), ("JPEG",))
        except PictureError:
            refused += 1
        else:
            np.testing.assert_array_equal(decoded, expected, err_msg=f"{length} of {len(whole)} bytes")
    assert refused > len(whole) - 8, "only bits that fill up the last byte may be missing"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_source_that_fails_while_it_is_read_does_not_make_the_picture_a_bad_one(format):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if size < 0 or self.tell() + size > len(whole) // 2:
                raise TinyTagsError("hdfs://namenode:8020 does not answer")
            return super().read(size)

    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    whole = encode(Image.fromarray(noise), format).getvalue()
    with pytest.raises(TinyTagsError):
        decode_picture(Failing(whole), (format,))


def test_what_is_no_picture_truncated_or_in_another_format_is_refused():
    whole = encode(Image.fromarray(make_images(1).reshape(32, 96)), "JPEG").getvalue()
    for data, words in [
        (b"", "is empty"),
        (b"no picture at all", "is no picture in JPEG"),
        (encode(Image.new("L", (9, 9))).getvalue(), "is no picture in JPEG"),
        (whole[: len(whole) // 2], "can't be decoded"),
    ]:
        with pytest.raises(PictureError, match=words) as caught:
            decode_picture(io.BytesIO(data), ("JPEG",))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]}])
def test_a_flipped_byte_of_a_png_is_an_error_or_changes_no_pixel(options):
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    whole = encode(picture, **options).getvalue()
    expected = decode_picture(io.BytesIO(whole), ("PNG",))
    for at in range(len(whole) - 12):  # the last chunk has no content
        flipped = bytearray(whole)
        flipped[at] ^= 8
        try:
            decoded = decode_picture(io.BytesIO(flipped), ("PNG",))
        except PictureError:
            continue
        assert options, "there are only pixels"
        np.testing.assert_array_equal(decoded, expected)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_metadata_that_cannot_be_read_does_not_spoil_sound_pixels():
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    png, jpeg = (encode(picture, format).getvalue() for format in ("PNG", "JPEG"))
    expected = decode_picture(io.BytesIO(png), ("PNG",))
    wrong_checksum = _chunk(b"tEXt", b"Title\0x")[:-1] + b"\0"
    for inserted in (
        _chunk(b"iCCP", b"x\0\0" + zlib.compress(b"bad")),
        _chunk(b"eXIf", b"\0\x08\0\2\1\x12\0\3"),
        wrong_checksum,
    ):
        for at in (33, len(png) - 12):  # before the pixels, and after them
            decoded = decode_picture(io.BytesIO(png[:at] + inserted + png[at:]), ("PNG",))
            np.testing.assert_array_equal(decoded, expected)
    np.testing.assert_array_equal(decode_picture(io.BytesIO(png[:-12]), ("PNG",)), expected)
    plain = decode_picture(io.BytesIO(jpeg), ("JPEG",))
    for exif in (b"Exif\0\0\x07garbage", b"Exif\0\0II*\0\x08", b"Exif\0\0"):
        decoded = decode_picture(encode(picture, "JPEG", exif=exif), ("JPEG",))
        np.testing.assert_array_equal(decoded, plain)


def test_a_jpeg_of_any_camera_is_decoded_at_an_eighth_of_its_size(monkeypatch):
    monkeypatch.setattr("ingest.image.MAX_SCANNED_PIXELS", 10_000_000)
    large, sizes = Image.new("L", (4800, 4000), 90), []

    def convert(picture):
        sizes.append(picture.size)
        return from_picture(picture)

    assert np.abs(decode_picture(encode(large, "JPEG"), ("JPEG",), convert).astype(int) - 90).max() < 3
    assert sizes == [(600, 500)]
    # Of several scans the decoder keeps all pixels.
    with pytest.raises(PictureError, match="in several scans are more than 10,000,000"):
        decode_picture(encode(large, "JPEG", progressive=True), ("JPEG",))
    small = encode(large.resize((800, 600)), "JPEG", progressive=True)
    assert decode_picture(small, ("JPEG",)).shape == (3072,)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_columns_become_rows_however_many_images_there_are_and_however_they_lie(count):
    images = np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)
    wanted = np.array([image.reshape(3, 32, 32).transpose(0, 2, 1).reshape(-1) for image in images], np.uint8)
    wanted = wanted.reshape(count, 3072)
    np.testing.assert_array_equal(from_column_major(images), wanted)
    frozen = np.frombuffer(images.tobytes(), np.uint8).reshape(count, 3072)
    np.testing.assert_array_equal(from_column_major(frozen), wanted)
    odd = np.zeros(count * 3072 + 1, np.uint8)[1:].reshape(count, 3072)
    odd[:] = images
    np.testing.assert_array_equal(from_column_major(odd), wanted)
    out = np.zeros((count, 2, 3072), np.uint8)
    apart = np.zeros((count, 2, 3072), np.uint8)
    apart[:, 0] = images
    upper = out[:, 1]
    assert from_column_major(apart[:, 0], upper) is upper
    np.testing.assert_array_equal(out[:, 1], wanted)
    assert not out[:, 0].any()
