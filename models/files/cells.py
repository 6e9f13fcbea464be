"""An entity written as text, as in a cell of CSV: as JSON, or as Python prints a dictionary."""

import ast
import json
import warnings
from typing import Any, Final

MAX_CELL_CHARACTERS: Final = 10_000
"""Longest entity written as text. The parser has limits of its own, which only longer texts reach."""
NUMPY_SCALARS: Final = frozenset(
    {"str_", "float", "float16", "float32", "float64", "longlong", "ulonglong"}
) | {f"{sign}int{bits}" for sign in ("", "u") for bits in ("", "8", "16", "32", "64", "c")}
"""Types that NumPy 2 prints around a number or a string, as in `np.int64(3)`."""
MISSING_NAMES: Final = ("nan", "NaN", "NAN", "NA", "NaT", "null")
"""Names that pandas, NumPy and R print for a missing value."""


def parse_cell(cell: str, key: str) -> Any:
    """The value of a cell. No code in it is run.

    Args:
        key: the cell's column, for the error message.

    Raises:
        ValueError: it is neither JSON nor a Python literal.
    """
    if len(cell) > MAX_CELL_CHARACTERS:
        raise ValueError(f"{key}: longer than {MAX_CELL_CHARACTERS} characters; shorten it")
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    for text in (cell.strip(), cell.strip().replace("<NA>", "None")):  # pandas.NA
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a backslash that begins no escape
                return _value(ast.parse(text, mode="eval").body)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    shown = f"{cell[:40]!r}{'…' * (len(cell) > 40)}"
    raise ValueError(f"{key}: neither a Python literal nor JSON: {shown}")


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(), attr=name) if name in MISSING_NAMES:
            return None
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(), attr=name), args=[inside]) if (
            name in NUMPY_SCALARS
        ):
            return _value(inside)
    raise ValueError("this is not a literal")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("a key is a string")
