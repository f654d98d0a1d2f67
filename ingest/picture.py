"""Decodes a picture that a client sends, in a process of its own, within limits of memory and time.

A file of a few kilobytes may take any decoder minutes or gigabytes (a JPEG of thousands of scans), or end it. So its size
is checked first, then its pixels before they are decoded (`MOST_PIXELS`), and the rest by the operating system.
"""

import io
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np

from conf.errors import TinyTagsError
from ingest.digit import DETAIL, from_digit
from ingest.image import IMAGE_BYTES, PictureError, PictureTooLargeError, Pixels, decode_picture

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
MOST_BYTES = 10 << 20
MOST_PIXELS = 16_000_000  # as decoded: of a JPEG at a fraction of its size
# Of a processor, for one picture. The largest that is allowed takes half of it.
CPU_SECONDS = 1.5
# A busy machine gives a process less than a processor.
SECONDS = 10.0
MEMORY_BYTES = 512 << 20  # of address space; the largest picture needs some 350 MiB
WORKERS = 2
_REQUEST, _ANSWER = struct.Struct(">I?"), struct.Struct(">?I")


class DecoderBusyError(TinyTagsError):
    """All processes that decode are in use, and none became free in time."""


def read_picture(data: bytes, digits: bool = False) -> Pixels:
    """Return a picture in one of `FORMATS`, by its content, as a canonical image, (3072,) uint8, as a folder's is read.

    With ``digits`` the digit that is written in it, as MNIST has it. Raises `PictureError` as `decode_picture` does.
    """
    if digits:
        return decode_picture(io.BytesIO(data), FORMATS, from_digit, detail=DETAIL, most_pixels=MOST_PIXELS)
    return decode_picture(io.BytesIO(data), FORMATS, most_pixels=MOST_PIXELS)


class Decoder:
    """Does what `read_picture` does, in processes that start on first use and end with this one. Thread-safe."""

    def __init__(self, workers: int = WORKERS) -> None:
        # The last one used is the first to be used again, so that the others need not be started.
        self._workers: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._workers.put(None)

    def read(self, data: bytes, digits: bool = False) -> Pixels:
        """Return the canonical image, (3072,) uint8. Raises `PictureError`, or `DecoderBusyError` after 10 s."""
        if len(data) > MOST_BYTES:
            raise PictureTooLargeError(f"has {len(data):,} bytes; the most are {MOST_BYTES:,}")
        try:
            worker = self._workers.get(timeout=SECONDS)
        except queue.Empty:
            raise DecoderBusyError("too many pictures at once; try again in a moment") from None
        usable = False
        try:
            worker = worker or _Worker()
            image = worker.read(data, digits)
            usable = True
            return image
        except _RefusedError as error:
            usable = True
            raise PictureError(str(error)) from None
        finally:
            if worker and not usable:
                worker.end()
            self._workers.put(worker if usable else None)

    def close(self) -> None:
        """End the processes that are not in use."""
        while True:
            try:
                worker = self._workers.get_nowait()
            except queue.Empty:
                return
            if worker:
                worker.end()


class _RefusedError(Exception):
    """The process has answered that the bytes are no picture."""


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ingest.picture"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ
            | {
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )

    def read(self, data: bytes, digits: bool) -> Pixels:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        deadline = time.monotonic() + SECONDS
        try:
            stdin.write(_REQUEST.pack(len(data), digits) + data)
            stdin.flush()
            good, length = _ANSWER.unpack(_read_until(stdout, _ANSWER.size, deadline))
            answer = _read_until(stdout, length, deadline)
        except TimeoutError:
            raise PictureError(f"takes more than {SECONDS:g} s to decode") from None
        except OSError:
            self._process.kill()  # it may only have closed its end
            if self._process.wait() == -signal.SIGPROF:
                raise PictureError(f"takes more than {CPU_SECONDS:g} s to decode") from None
            raise PictureError("can't be decoded (it ended the decoder)") from None
        if not good:
            raise _RefusedError(answer.decode())
        return np.frombuffer(answer, np.uint8)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _read_until(file: IO[bytes], length: int, deadline: float) -> bytes:
    """Return ``length`` bytes of a pipe. Raises `TimeoutError`, and `OSError` at its end."""
    data = b""
    while len(data) < length:
        if not select.select([file], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(file.fileno(), length - len(data))
        if not part:
            raise OSError("the pipe has ended")
        data += part
    return data


def _serve() -> None:
    """Answer the requests on stdin, within the limits, until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in the middle of a decoder too
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, and that ends stdin
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints does not disturb the answers
    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        length, digits = _REQUEST.unpack(head)
        data = requests.read(length)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            good, answer = True, read_picture(data, digits).tobytes()
            assert len(answer) == IMAGE_BYTES
        except PictureError as error:
            good, answer = False, str(error).encode("utf-8", "replace")
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(_ANSWER.pack(good, len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    _serve()
