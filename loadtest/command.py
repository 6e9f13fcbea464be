"""How a trial or a benchmark begins and ends: its arguments, and a verdict that CI understands."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def make_parser(module: str, description: str, example: str = "") -> argparse.ArgumentParser:
    """The parser of `python -m MODULE`; `example` holds arguments that a reader can copy."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"Example: python -m {module} {example}".rstrip(),
    )


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """`--bundle`; None leaves the choice to the server."""
    text = "bundle to serve: a folder, or hf://owner/name@revision (default: the server's own)"
    parser.add_argument("--bundle", type=_bundle, help=text)


def add_connections(parser: argparse.ArgumentParser, *default: int) -> None:
    """The option that names the numbers of connections to measure."""
    shown = " ".join(map(str, default))
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        default=list(default),
        metavar="N",
        help=f"connections to measure (default: {shown})",
    )


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """`--output`, a file or folder in benchmarks/results by default."""
    path = Path("benchmarks/results") / name
    parser.add_argument("--output", type=Path, default=path, help=f"results (default: {path})")


def _bundle(text: str) -> Path | str:
    return text if text.startswith("hf://") else bundle_folder(text)


def bundle_folder(text: str) -> Path:
    """An argument type: the folder of a bundle on this machine."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder; name the folder of a bundle")
    return path.resolve()  # the server runs in the repository's root


def conclude(trial: str, figures: dict[str, Any], promises: dict[str, bool]) -> int:
    """Print each promise on stderr, and the summary as one JSON object on stdout.

    Args:
        promises: sentence -> whether it was kept.

    Returns:
        The exit status: 0 if every promise was kept, else 1.
    """
    for promise, kept in promises.items():
        print(f"{'kept  ' if kept else 'BROKEN'}  {promise}", file=sys.stderr)
    print(json.dumps({"trial": trial, "kept": all(promises.values()), **figures}, ensure_ascii=False))
    return 0 if all(promises.values()) else 1


def write_json(path: Path, document: object) -> None:
    """Write results, and their folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
