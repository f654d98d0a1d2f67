"""Files that are sent as pictures to harm: truncated, bombs, other formats by a picture's name, formats within formats."""

import bz2
import gzip
import io
import struct
import zipfile
import zlib

from PIL import Image


def _encode(picture: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 2, more: bytes = b"") -> bytes:
    """Return a PNG with any header, any compressed data and any more chunks."""
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    )


def hostile_files() -> dict[str, bytes]:
    """Return files by what they are; none of them is a picture that can be shown."""
    small = Image.linear_gradient("L").resize((60, 60)).convert("RGB")
    whole = {name: _encode(small, name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")}
    html = b"<!doctype html><script>alert(1)</script>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("picture.png", whole["PNG"])
    zeros = zlib.compress(bytes(50_000_000))
    pictures = {
        "nothing": b"",
        "one byte": b"\x89",
        "zeros": bytes(5000),
        "text": b"no picture at all\n" * 10,
        "html": html,
        "svg": svg,
        "svg with an entity bomb": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
        "svg, gzipped": gzip.compress(svg),
        "php": b"<?php system($_GET['c']); ?>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
        "pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
        "tiff": _encode(small, "TIFF"),
        "tga": _encode(small, "TGA"),
        "ppm": _encode(small, "PPM"),
        "ico": _encode(small, "ICO"),
        "jpeg 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(100),
        "windows metafile": b"\xd7\xcd\xc6\x9a" + bytes(100),
        "html with a byte order mark": b"\xef\xbb\xbf" + html,
        "html in UTF-16": html.decode().encode("utf-16"),
        "svg with a byte order mark": b"\xef\xbb\xbf" + svg,
        "a shell script": b"#!/bin/sh\nid\n",
        "sqlite": b"SQLite format 3\0" + bytes(84),
        "photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 10, 10, 8, 3) + bytes(400),
        "x bitmap": b"#define x_width 8\n#define x_height 1\nstatic char x_bits[] = {\n0x00};\n",
        "heic": b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00heicmif1miaf" + bytes(100),
        "mp4": b"\x00\x00\x00\x1cftypisom\x00\x00\x00\x00isomavc1mp41" + bytes(100),
        "bzip2 of zeros": bz2.compress(bytes(1_000_000)),
        "gzip of zeros": gzip.compress(bytes(1_000_000)),
        "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "elf": b"\x7fELF" + bytes(60),
        "zip with a picture": archive.getvalue(),
        "html, then a picture": html + whole["PNG"],
        "pdf, then a picture": b"%PDF-1.4\n" + whole["JPEG"],
        "gif header, then script": b"GIF89a/*" + html + b"*/=0;",
        "png header, then html": b"\x89PNG\r\n\x1a\n" + html,
        "jpeg header, then html": b"\xff\xd8\xff\xe0" + html,
        "bmp header, then html": b"BM" + html,
        "webp header, then html": b"RIFF\x40\x00\x00\x00WEBPVP8 " + html,
        "avif header, then html": b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf" + html,
        "bomb of 60,000 x 60,000": png(60_000, 60_000, zeros),
        "bomb of 5,000 x 5,000": png(5_000, 5_000, zeros),
        "bomb of one row": png(2_000_000_000, 1, zeros),
        "no pixels": png(0, 0, b""),
        "negative size": png(0xFFFFFFFF, 0xFFFFFFFF, b""),
        "unknown colours": png(10, 10, zlib.compress(bytes(400)), colour=7),
        "too little data": png(100, 100, zlib.compress(bytes(50))),
        "no zlib": png(100, 100, b"not compressed"),
        "a text of 50 MB": png(10, 10, b"", more=_chunk(b"zTXt", b"Comment\0\0" + zeros)),
        "a profile of 50 MB": png(10, 10, b"", more=_chunk(b"iCCP", b"x\0\0" + zeros)),
        "a chunk beyond the end": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0x7FFFFFFF) + b"IHDR" + bytes(30),
        "bmp of 60,000 x 60,000": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "gif of 65,535 x 65,535": b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b",\x00\x00\x00\x00\xff\xff\xff\xff\x00\x08\x01\x00\x00;",
        "webp of 16,383 x 16,383": b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\xff\xff\xff\x0f" + bytes(8),
        "jpeg of 65,500 x 65,500": whole["JPEG"][:2] + b"\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01" + whole["JPEG"][2:],
    }  # fmt: skip
    for name, data in whole.items():
        for percent in range(3, 92 if name == "PNG" else 99, 4):  # beyond that a PNG has all its pixels
            pictures[f"{name} cut at {percent} %"] = data[: len(data) * percent // 100]
        pictures[f"{name} with its middle overwritten by html"] = (
            data[:20] + html + data[20 + len(html) : 200]
        )
    return pictures
