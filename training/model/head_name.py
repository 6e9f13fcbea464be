"""The names of heads (training/model/head.py), without PyTorch."""

import hashlib
from pathlib import Path
from typing import Final, Literal, get_args

HeadName = Literal["entity_start", "cls", "cls_entity_start", "mean", "r_bert", "entity_types", "lstm"]
EXIT_HEADS: Final = ("entity_start", "cls", "cls_entity_start", "entity_types")
"""Heads that read few tokens of the last layer. Only these can be exits: a stage of a trunk computes its last
layer for the tokens that its head reads (export/stages.py)."""


def checked_head(head: str) -> str:
    """A name of `HeadName`, or `FILE.py:CLASS`.

    Raises:
        ValueError: it is neither of them.
    """
    if head not in get_args(HeadName):
        own_file(head)
    return head


def own_file(head: str) -> tuple[Path, str]:
    """The file and the name of a class of the user's. Raises ValueError if `head` is not `FILE.py:CLASS`."""
    path, _, name = head.rpartition(":")
    if not (path.endswith(".py") and name.isidentifier()):
        names = ", ".join(get_args(HeadName))
        raise ValueError(f"{head!r} is no head; give one of {names}, or FILE.py:CLASS for a class of yours")
    return Path(path), name


def own_code(head: str) -> tuple[bytes, str]:
    """The content of the file of a class of the user's, and its SHA-256.

    Raises:
        ValueError: the file cannot be read.
    """
    path, _ = own_file(head)
    try:
        code = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"head {head}: {path}: {error.strerror}; run the command where the file has this path"
        ) from None
    return code, hashlib.sha256(code).hexdigest()
