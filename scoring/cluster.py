"""Score many files on a Ray cluster, a worker a machine: python -m scoring.cluster INPUT … FOLDER

    mkdir parts && split --lines 500000 --additional-suffix .jsonl rows.jsonl parts/
    python -m scoring.cluster parts predictions --to parquet

Each file becomes in FOLDER what `python -m scoring FILE` makes of it (output, rejects, report), and a summary, OUTPUT.summary.json. Ray
gives a worker file after file, on the cluster of --address or of RAY_ADDRESS, else on one that runs on this machine already, else on this
machine alone. Where a worker dies, another one goes on after the last finished window; the same command given again goes on after what is
finished. All machines must see the files, the bundle and this project under the same paths.

Exit status: 0 when every row was scored or is among the rejects; 1 when a file breaks off or could not be
scored, which keeps no other file from it; 2 for an error of the user's, in one plain line.
"""

import argparse
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from engine.tuning import load
from models.bundle import Bundle, BundleRefused
from scoring.__main__ import engine_settings, job, make_parser, run
from scoring.errors import Refused, Stopped
from scoring.inputs import COMPRESSED
from scoring.journal import Paths, output_paths, write_whole
from scoring.outputs import OutputForm, choose_writer, json_lines

ROOT: Final = Path(__file__).resolve().parents[1]
ENDINGS: Final[dict[OutputForm, str]] = {
    "jsonl": ".jsonl",
    "csv": ".csv",
    "parquet": ".parquet",
    "submission": ".csv",
}
OF_THE_CLUSTER: Final = frozenset({"inputs", "folder", "address", "cpus", "gpus"})
"""Options that are no worker's affair."""


class FileScorer:
    """A worker: the ensemble is loaded once, then file after file is scored.

    Args:
        options: of the command line, as `argparse` read them.
        cores: that its lanes may use.

    Raises:
        BundleRefused, DeviceUnavailable: as `engine.tuning.load`.
    """

    def __init__(self, options: dict[str, Any], cores: int) -> None:
        self._options = options
        bundle = Bundle.open(options["bundle"])
        self._loaded = load(bundle, engine_settings(options), cores)

    def __call__(self, file: dict[str, str]) -> dict[str, str]:
        """Score one file, `input`, into another, `output`. `outcome` is JSON: its summary, or under `error`
        why it could not be scored."""
        try:
            outcome = self._score(argparse.Namespace(**self._options, **file, resume=True))
        except (Refused, Stopped) as error:
            outcome = {"error": str(error)}
        except OSError as error:
            outcome = {"error": f"{error.filename or file['output']}: {error.strerror or error}"}
        # whatever it is, it must not end the files of the others: Ray gives up where a worker raises
        except Exception as error:
            outcome = {"error": f"{type(error).__name__}: {_one_line(error)}"}
        return file | {"outcome": json.dumps(outcome)}

    def _score(self, arguments: argparse.Namespace) -> dict[str, Any]:
        kept = _summary_path(output_paths(arguments.output))
        writer = choose_writer(arguments.output, arguments.to, arguments.top_k, arguments.label_order)
        asked = job(arguments, self._loaded.lanes.ensemble.bundle, writer, self._loaded.lanes.ensemble.device)
        with suppress(OSError, ValueError, KeyError):
            earlier = json.loads(kept.read_bytes())
            if earlier["job"] == json.loads(json.dumps(asked)) and Path(arguments.output).exists():
                return dict(earlier["summary"])
        summary = run(arguments, self._loaded)
        write_whole(
            kept,
            json.dumps({"job": asked, "summary": summary}, ensure_ascii=False, indent=1).encode(
                "utf-8", "backslashreplace"
            ),
        )
        return summary


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    began = time.monotonic()
    try:
        files = plan(arguments.inputs, Path(arguments.folder), arguments.to)
        # refused here rather than on every machine
        arguments.bundle = Bundle.open(arguments.bundle).path.resolve()
        with connected(arguments.address) as ray:
            outcomes = list(score_all(ray, files, arguments))
    except (Refused, BundleRefused) as error:
        print(f"scoring.cluster: {error}", file=sys.stderr)
        return 2
    except Stopped as error:
        print(f"scoring.cluster: {error}", file=sys.stderr)
        return 1
    done = [outcome for outcome in outcomes if "error" not in outcome]
    failed = [outcome for outcome in outcomes if "error" in outcome]
    counts = {name: sum(outcome[name] for outcome in done) for name in ("rows", "scored", "rejected")}
    broken = [
        {"output": outcome["output"], "broken": outcome["broken"]} for outcome in done if outcome["broken"]
    ]
    seconds = time.monotonic() - began
    summary = {
        "files": len(outcomes),
        **counts,
        "failed": failed,
        "broken": broken,
        "seconds": round(seconds, 1),
    }
    print(json_lines([summary]).decode(), end="")
    return 1 if failed or broken else 0


def plan(inputs: list[Path], folder: Path, form: OutputForm) -> list[dict[str, str]]:
    """Which file becomes which.

    Raises:
        Refused: an input is missing, a folder without files, or would be overwritten; two of them would write
            the same file; the outputs cannot be written.
    """
    sources: list[Path] = []
    for path in inputs:
        try:
            found = (
                sorted(entry for entry in path.iterdir() if entry.is_file() and entry.name[0] not in "._")
                if path.is_dir()
                else [path]
            )
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from None
        if not found or not all(entry.is_file() for entry in found):
            raise Refused(f"{path}: there is no file to score")
        sources += found
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder}: this is a file; a folder for the outputs is required")
    inputs_there = {source.resolve() for source in sources}
    targets: dict[Path, Path] = {}
    writers: dict[Path, Path] = {}  # of each file that will be written, the input that it comes of
    for source in sources:
        stem = source.with_suffix("") if source.suffix in COMPRESSED else source
        target = (folder / stem.with_suffix(ENDINGS[form]).name).resolve()
        paths = Paths(target)
        for path in [*paths.all(), _summary_path(paths)]:
            if path in writers:
                raise Refused(f"{source} and {writers[path]} would both write {path}")
            if path in inputs_there:
                raise Refused(f"{path}: this is an input; it would be overwritten")
            writers[path] = source
        targets[target] = source
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from None
    return [{"input": str(source.resolve()), "output": str(target)} for target, source in targets.items()]


def _summary_path(paths: Paths) -> Path:
    return paths.beside(".summary.json")


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, with a cluster behind it.

    Raises:
        Refused: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported, both
    # it warns of actors that lose their arguments when this process ends
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise Refused(
            f"a cluster needs Ray, which serving does not install: pip install '.[serve,cpu,cluster]' ({error})"
        ) from None
    _require_somebody_at(address or os.environ.get("RAY_ADDRESS", ""))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Refused(
            f"no Ray cluster at {address or os.environ.get('RAY_ADDRESS', 'this machine')}: {_one_line(error)}"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_somebody_at(address: str) -> None:
    """Ray itself would go on trying for minutes."""
    host, separator, port = address.rpartition("//")[2].rpartition(":")
    if not separator or not port.isdigit():
        return  # `auto` or `local`
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise Refused(f"no Ray cluster at {address}: {error}") from None


def score_all(
    ray: Any, files: list[dict[str, str]], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """The outcome of each file, as they come.

    Raises:
        Refused: no machine has room for a worker.
        Stopped: a worker could not load the bundle, or Ray gave up.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = arguments.cpus or min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=0)
    needed = {"CPU": cores, "GPU": arguments.gpus}
    if (
        cores < 1
        or arguments.gpus < 0
        or not any(all(node.get(name, 0) >= count for name, count in needed.items()) for node in nodes)
    ):
        raise Refused(
            f"no machine of the cluster has {cores} cores and {arguments.gpus} GPUs for a worker: see --cpus and --gpus"
        )
    options = {name: value for name, value in vars(arguments).items() if name not in OF_THE_CLUSTER}
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=len(files), max_tasks_in_flight_per_actor=1)
    outcomes = ray.data.from_items(files, override_num_blocks=len(files)).map(
        FileScorer,
        fn_constructor_args=(options, cores),
        compute=workers,
        num_cpus=cores,
        num_gpus=arguments.gpus,
    )
    try:
        for number, file in enumerate(outcomes.iter_rows(), start=1):
            outcome: dict[str, Any] = {"input": file["input"], **json.loads(file["outcome"])}
            said = (
                outcome.get("error")
                or outcome["broken"]
                or f"{outcome['rows']:,} rows, {outcome['rejected']:,} of them rejected"
            )
            print(
                f"scoring.cluster: {number} of {len(files)}: {Path(file['input']).name}: {said}",
                file=sys.stderr,
            )
            yield outcome
    except ray.exceptions.RayError as error:
        raise Stopped(
            f"{_one_line(error)}; what is finished is kept, the same command goes on after it"
        ) from None


def _one_line(error: BaseException) -> str:
    """The innermost reason: Ray's messages begin with the tracebacks of its workers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m scoring.cluster", __doc__ or "")
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="+",
        type=Path,
        help="files as `python -m scoring` takes them, or folders of such files",
    )
    add("folder", metavar="FOLDER", help="for the outputs, which are called like the inputs")
    add(
        "--address",
        help="of a Ray cluster: auto, HOST:PORT (default: RAY_ADDRESS, else one that runs here, else this machine alone)",
    )
    add(
        "--cpus",
        type=int,
        metavar="N",
        help="cores of a worker (default: as many as the smallest machine has)",
    )
    add("--gpus", type=int, default=0, metavar="N", help="GPUs of a worker (default: 0)")
    parser.set_defaults(to="jsonl")
    return parser


if __name__ == "__main__":
    sys.exit(main())
