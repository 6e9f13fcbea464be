"""The encoding of a text file: found in its first bytes, and turned into UTF-8.

1. A byte order mark decides: UTF-8, UTF-16 or UTF-32.
2. Without a mark: JSON and the header of a CSV file begin with ASCII. In UTF-16 half of its bytes are zero.
3. Otherwise the encoding that fits better: UTF-8, or cp949 (Excel in Korea; it includes EUC-KR) if the text
   is then mostly Hangul.

A few bytes that do not fit are a damaged row, not another encoding. They become bytes that are not UTF-8. So
the row is rejected, and the rows around it are read.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from models.files.errors import InputBroken, InvalidRows

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its first half
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
KOREAN: Final = "cp949"
DAMAGE: Final = 0.01
"""Share of bytes that do not fit, up to which a file counts as damaged UTF-8."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a text looks in an encoding: its characters that are not ASCII, and the bytes that do not fit."""

    characters: int
    faults: int
    hangul: int

    @classmethod
    def of(cls, head: bytes, encoding: str) -> "_Fit":
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
        faults = text.count("\ufffd")
        ascii_only = len(text.encode("ascii", "ignore"))
        return cls(len(text) - ascii_only - faults, faults, len(re.findall("[가-힣]", text)))


def is_encoding(name: str) -> bool:
    """Whether Python knows a text encoding of this name."""
    try:
        b"".decode(name)
        return not codecs.lookup(name).name.startswith(("idna", "punycode", "undefined"))
    except (LookupError, ValueError):
        return False


def choose(head: bytes, name: str, asked: str | None) -> str:
    """The encoding of a file.

    Args:
        head: its first bytes.
        name: of the file, for the error message.
        asked: the encoding that the user gives.

    Raises:
        InvalidRows: the bytes do not fit the encoding that the user gives, or none is found.
    """
    marked = next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)
    if asked is not None:
        encoding = codecs.lookup(asked).name.replace("_", "-").removesuffix("-sig")
        if encoding in ("utf-16", "utf-32"):
            encoding = marked if marked and marked.startswith(encoding) else f"{encoding}-le"
        fit = _Fit.of(head, encoding)
        if fit.faults > fit.characters or (marked and marked != encoding):
            found = f"its byte order mark says {marked}" if marked else "its bytes do not fit"
            raise InvalidRows(
                f"{name}: this is not {asked} text: {found}; leave --encoding out or name another"
            )
        return encoding
    if marked:
        return marked
    zeros = [byte == 0 for byte in head[:4]]
    if zeros in ([False, True, False, True], [True, False, True, False]):
        return "utf-16-be" if zeros[0] else "utf-16-le"
    utf8 = _Fit.of(head, "utf-8")
    if utf8.faults <= utf8.characters:
        return "utf-8"
    korean = _Fit.of(head, KOREAN)
    if korean.faults * 10 <= korean.characters and korean.hangul * 2 >= korean.characters:
        return KOREAN
    if utf8.faults <= DAMAGE * len(head):
        return "utf-8"
    raise InvalidRows(
        f"{name}: its text is neither UTF-8 nor UTF-16 nor cp949; save it as UTF-8 "
        "(python -m scoring also takes --encoding)"
    )


def as_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, without a byte order mark. Bytes that do not fit become bytes that are not UTF-8.

    Raises:
        InputBroken: the text ends within a character.
    """
    begun = False
    if encoding == "utf-8":
        for chunk in chunks:
            yield chunk if begun else chunk.removeprefix(codecs.BOM_UTF8)
            begun = True
        return
    errors = "surrogatepass" if encoding.startswith("utf-") else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            yield (text if begun else text.removeprefix("\ufeff")).encode("utf-8", "surrogatepass")
            begun = begun or bool(text)
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise InputBroken(f"the {encoding} text is damaged here: {error.reason}") from None
