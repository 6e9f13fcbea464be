"""Compares the working tree's server with that of an older revision: python -m benchmarks.versions REVISION

1. Check out REVISION into a temporary git worktree. Both servers run with this Python. They serve the same
   bundle, or the old one serves --old-bundle: with HEAD as REVISION this compares two bundles on one server.
2. In each pair, start both servers, one after the other, so that neither measures its batches under load.
3. At each number of connections, load one server and then the other. The next pair swaps the order.
4. Take medians over the pairs; of ratios, the median of the ratios within a pair, since a machine's speed
   drifts.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.rows import draw_rows, readable
from loadtest.command import add_bundle, add_connections, conclude, make_parser
from loadtest.server import ROOT, leaving_on_sigterm, running
from loadtest.traffic import Measurement, make_requests, measure

LEAST: Final = 0.95
"""Times the old requests/s that the working tree must reach."""
WARMUP_S: Final = 2.0
ROWS: Final = 300


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.versions",
        "Compare the requests/s of the working tree's server with those of an older revision.",
        "HEAD~1 --connections 16 --pairs 3",
    )
    parser.add_argument("revision", help="the older commit: a hash, a tag or a branch")
    add_connections(parser, 1, 16, 64)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of measurements (default: 9)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of one measurement (default: 8)")
    parser.add_argument(
        "--old-bundle", type=Path, metavar="BUNDLE", help="bundle of the older server (default: the same)"
    )
    parser.add_argument(
        "--least",
        type=float,
        default=LEAST,
        metavar="TIMES",
        help=f"times the old requests/s that are required (default: {LEAST})",
    )
    add_bundle(parser)
    arguments = parser.parse_args(argv)
    commit = git("rev-parse", "--verify", "--quiet", f"{arguments.revision}^{{commit}}")
    if commit is None:
        parser.error(f"this repository has no commit {arguments.revision!r}; name a hash, a tag or a branch")
    from engine.settings import DEFAULT_BUNDLE  # slow to import, and not needed for --help
    from models.bundle import Bundle

    bundle = Bundle.open(arguments.bundle or DEFAULT_BUNDLE).path  # older servers know no address on the hub
    bundles = {"old": arguments.old_bundle.resolve() if arguments.old_bundle else bundle, "new": bundle}
    pairs = []
    with leaving_on_sigterm(), checked_out(commit) as old:
        for number in range(arguments.pairs):
            pairs.append(
                measure_pair(old, bundles, arguments.connections, arguments.seconds, number % 2 == 0)
            )
            print(f"pair {number + 1} of {arguments.pairs}", file=sys.stderr)
    levels = {connections: compare([pair[connections] for pair in pairs]) for connections in pairs[0]}
    promises = {
        f"{connections} connections: {level['rps']['ratio']} of the old requests/s, at least "
        f"{arguments.least}": (level["rps"]["ratio"] or 0) >= arguments.least
        for connections, level in levels.items()
    }
    promises["every request was answered"] = not any(level["errors"] for level in levels.values())
    figures = {
        "old": commit[:12],
        "new": git("describe", "--always", "--dirty=+", "--exclude=*"),
        "bundles": {side: str(path) for side, path in bundles.items()},
        "pairs": len(pairs),
        "connections": levels,
    }
    return conclude("versions", figures, promises)


def git(*arguments: str) -> str | None:
    """The output of a git command in this repository; None if the command fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, text=True, capture_output=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of the commit, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        tree = Path(scratch) / "old"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def measure_pair(
    old: Path, bundles: dict[str, Path], levels: list[int], seconds: float, old_first: bool
) -> dict[int, dict[str, Measurement]]:
    """Both servers at each number of connections: `{16: {"old": …, "new": …}, …}`."""
    rows = readable(bundles["new"], draw_rows(None, ROWS))
    trees = {"old": old, "new": ROOT} if old_first else {"new": ROOT, "old": old}
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(running(bundles[name], root=tree)).port for name, tree in trees.items()
        }
        return {
            connections: {
                name: measure(port, make_requests(port, rows), connections, WARMUP_S, seconds)
                for name, port in ports.items()
            }
            for connections in levels
        }


def compare(pairs: list[dict[str, Measurement]]) -> dict[str, Any]:
    """The figures at one number of connections; ratios are new over old, None where a server had no
    answer."""
    level: dict[str, Any] = {}
    for figure in ("rps", "p50_ms", "p99_ms"):
        sides = {name: [getattr(pair[name], figure) for pair in pairs] for name in ("old", "new")}
        complete = all(value for side in sides.values() for value in side)
        level[figure] = {name: round(median(side), 2) if complete else None for name, side in sides.items()}
        ratios = [new / old for new, old in zip(sides["new"], sides["old"], strict=True)] if complete else []
        level[figure]["ratio"] = round(median(ratios), 3) if ratios else None
        level[figure]["ratios"] = [round(ratio, 2) for ratio in ratios]
    level["errors"] = sum(sum(one.errors.values()) for pair in pairs for one in pair.values())
    return level


if __name__ == "__main__":
    sys.exit(main())
