"""The bytes of an input in small pieces, decompressed by their content and not by the name of the file."""

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

from models.files.errors import InputBroken, InvalidRows
from models.files.forms import STANDARD

CHUNK_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 16 * 1024
"""Bytes that are decompressed at a time. At most this much is lost where a stream is damaged, and a stream
of zeros cannot fill the memory."""
ZSTD_BYTES: Final = 256
"""Bytes of a zstd stream that are decompressed at a time. Four bytes can become 128 KiB, and the library
has no limit for its output."""
HEAD_BYTES: Final = 64 * 1024
"""First bytes that tell what a file is."""

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)))
"""How a frame begins: a frame of data, or one of the sixteen kinds of skippable frames."""
MAGIC_BYTES: Final = 4


@dataclass(slots=True)
class Source:
    """An open input.

    Attributes:
        name: from the user; `-` is standard input.
        head: its first bytes, decompressed.
        packed: whether it is compressed.
        chunks: all of its bytes, the head included, decompressed. Raises `InputBroken` where it breaks off.
    """

    name: str
    head: bytes
    packed: bool
    chunks: Iterator[bytes]
    _file: BinaryIO
    _size: int | None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.name != STANDARD:
            self._file.close()

    def fraction(self) -> float | None:
        """The share of the file that has been read, or `None` if its size is not known."""
        return None if not self._size else min(1.0, self._file.tell() / self._size)


def open_source(name: str) -> Source:
    """Open an input for reading.

    Raises:
        InvalidRows: it is missing, a folder or not readable, or the library for its compression is not
            installed.
    """
    try:
        # the source closes it
        file = sys.stdin.buffer if name == STANDARD else Path(name).open("rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise InvalidRows(f"{name}: {error.strerror}") from None
    try:
        size = None if name == STANDARD else os.fstat(file.fileno()).st_size
        read = getattr(file, "read1", file.read)  # from a pipe: the bytes that are there, not a whole chunk
        raw = iter(lambda: read(CHUNK_BYTES), b"")
        first, raw = peek(raw, MAGIC_BYTES)
        head, chunks = peek(_broken_off(_decompressed(first, raw, name)), HEAD_BYTES)
        if not head:
            next(chunks, None)  # raises the error, if there is one
    except (OSError, InputBroken, InvalidRows) as error:
        if name != STANDARD:
            file.close()
        if isinstance(error, InvalidRows):
            raise
        raise InvalidRows(f"{name}: {getattr(error, 'strerror', error)}") from None
    return Source(name, head, first.startswith((GZIP, *ZSTD)), chunks, file, size)


def peek(chunks: Iterator[bytes], count: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `count` bytes or more, if there are as many; and all bytes from the first on.

    Where the input breaks off within them, the second result raises the error after the bytes before it.
    """
    head, broken = b"", None
    try:
        while len(head) < count and (chunk := next(chunks, b"")):
            head += chunk
    except InputBroken as error:
        broken = error

    def all_bytes() -> Iterator[bytes]:
        if head:
            yield head
        if broken:
            raise broken
        yield from chunks

    return head, all_bytes()


def _broken_off(chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            yield from (chunk[start : start + CHUNK_BYTES] for start in range(0, len(chunk), CHUNK_BYTES))
    except OSError as error:
        raise InputBroken(f"the input cannot be read on: {error.strerror}") from None


def _decompressed(first: bytes, raw: Iterable[bytes], name: str) -> Iterable[bytes]:
    if first.startswith(GZIP):
        return _gunzip(raw)
    if first.startswith(ZSTD):
        return _unzstd(raw, zstd_library(name))
    return raw


def _gunzip(raw: Iterable[bytes]) -> Iterator[bytes]:
    """Members one after the other, each checked against its checksum."""
    stream = None
    for chunk in raw:
        full = False  # the last piece reached its limit: the stream has more
        while chunk or full:
            if stream is None:
                chunk = chunk.lstrip(b"\0")  # some writers pad members with zeros
                if not chunk:
                    break
                stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                piece = stream.decompress(chunk, PIECE_BYTES)
            except zlib.error:
                raise InputBroken("the gzip stream is damaged here") from None
            yield piece
            full = len(piece) == PIECE_BYTES and not stream.eof
            chunk = stream.unconsumed_tail
            if stream.eof:
                chunk, stream = stream.unused_data, None
    if stream is not None:
        raise InputBroken("the gzip stream ends before it is whole")


def _unzstd(raw: Iterable[bytes], zstd: Any) -> Iterator[bytes]:
    """Frames one after the other."""
    stream = None
    for chunk in raw:
        for start in range(0, len(chunk), ZSTD_BYTES):
            piece = chunk[start : start + ZSTD_BYTES]
            while piece:
                stream = stream or zstd.ZstdDecompressor().decompressobj()
                try:
                    data = stream.decompress(piece)
                except zstd.ZstdError:
                    raise InputBroken("the zstd stream is damaged here") from None
                yield data
                piece = stream.unused_data if stream.eof else b""
                if stream.eof:
                    stream = None
    if stream is not None:
        raise InputBroken("the zstd stream ends before it is whole")


def zstd_library(name: str) -> Any:
    """The module `zstandard`.

    Raises:
        InvalidRows: it is not installed.
    """
    try:
        return import_module("zstandard")
    except ImportError:
        raise InvalidRows(f"{name}: zstd needs zstandard; run: pip install '.[scoring]'") from None
