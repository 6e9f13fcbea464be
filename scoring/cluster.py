"""Score many files on a Ray cluster, one worker per machine.

Each file becomes in FOLDER the same output, rejects and report as with `python -m scoring FILE`, and a
summary, OUTPUT.summary.json. The cluster is that of --address or RAY_ADDRESS, or else one that runs on this
machine, or else this machine alone. If a worker dies, another one continues after the last finished window.
The same command, given again, continues where it stopped. All machines need the files, the bundle and this
project under the same paths.

Example:
  mkdir parts && split --lines 500000 --additional-suffix .jsonl rows.jsonl parts/
  python -m scoring.cluster parts predictions --to parquet

Exit status:
  0  every row was scored or is among the rejects
  1  a file breaks off, or no row of it could be scored; the other files are scored
  2  the user's error, on one line
"""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.command import fail
from models.errors import UserError
from models.files.forms import uncompressed
from models.files.tables import is_saved_dataset
from scoring.errors import Refused, Stopped
from scoring.forms import OutputForm
from scoring.options import ScoringOptions, ScoringParser
from scoring.paths import Paths, check_paths

if TYPE_CHECKING:
    from engine.tuning import TunedEnsemble

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Many files on a cluster.

    Attributes:
        inputs: files, or folders of files.
        folder: for the outputs.
        address: of a Ray cluster.
        cpus, gpus: of a worker; `None` cores are those of the smallest machine.
        scoring: the options of every file; its input and output are not set.
    """

    inputs: tuple[Path, ...]
    folder: Path
    address: str | None
    cpus: int | None
    gpus: int
    scoring: ScoringOptions

    @property
    def form(self) -> OutputForm:
        return self.scoring.output_form or "jsonl"


class FileScorer:
    """A worker. It loads the ensemble once, then scores file after file.

    Args:
        options: of every file.
        cores: the cores that its lanes can use.

    Raises:
        BundleRefused, DeviceUnavailable: as `engine.tuning.load`.
    """

    def __init__(self, options: ScoringOptions, cores: int) -> None:
        # they load ONNX Runtime, which the driver does not need
        from engine.tuning import load
        from models.bundle import Bundle

        self._options = options
        self._tuned = load(Bundle.open(options.engine.bundle), options.engine, cores)

    def __call__(self, file: dict[str, str]) -> dict[str, str]:
        """Score one file, `input`, into another, `output`. `outcome` is JSON: the summary, or under `error`
        the reason of a failure."""
        options = replace(self._options, input=file["input"], output=file["output"])
        try:
            outcome = _score_file(options, self._tuned)
        except UserError as error:
            outcome = {"error": str(error)}
        except OSError as error:
            outcome = {"error": f"{error.filename or file['output']}: {error.strerror or error}"}
        # Ray gives up if a worker raises, so no error of one file can reach it
        except Exception as error:
            outcome = {"error": f"{type(error).__name__}: {_one_line(error)}"}
        return file | {"outcome": json.dumps(outcome)}


def _score_file(options: ScoringOptions, tuned: "TunedEnsemble") -> dict[str, Any]:
    """The summary of one file: the kept one if the same job is finished already."""
    from scoring.journal import write_whole
    from scoring.outputs import choose_writer, encoded
    from scoring.run import job, run

    ensemble = tuned.lanes.ensemble
    kept = _summary_path(Paths.of(options.output))
    this = job(options, ensemble.bundle, choose_writer(options), ensemble.device)
    with suppress(OSError, ValueError, KeyError):
        earlier = json.loads(kept.read_bytes())
        if earlier["job"] == json.loads(json.dumps(this)) and Path(options.output).exists():
            return dict(earlier["summary"])
    check_paths(options)
    summary = run(options, tuned)
    write_whole(kept, encoded(json.dumps({"job": this, "summary": summary}, ensure_ascii=False, indent=1)))
    return summary


def main(argv: list[str] | None = None) -> int:
    options = _parse(argv)
    began = time.monotonic()
    from models.bundle import Bundle
    from models.hub import pinned

    try:
        files = plan(options.inputs, options.folder, options.form)
        # refused here, and not on every machine
        place = options.scoring.engine.bundle
        bundle = pinned(place, Bundle.open(place).path)
        engine = options.scoring.engine.model_copy(update={"bundle": bundle})
        options = replace(options, scoring=replace(options.scoring, engine=engine))
        with connected(options.address) as ray:
            outcomes = list(score_all(ray, files, options))
    except UserError as error:
        return fail("scoring.cluster", error)
    summary = _total(outcomes) | {"seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(summary, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())
    return 1 if summary["failed"] or summary["broken"] or summary["unscored"] else 0


def _total(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    done = [outcome for outcome in outcomes if "error" not in outcome]
    return {
        "files": len(outcomes),
        "unscored": [outcome["output"] for outcome in done if outcome["rows"] and not outcome["scored"]],
        **{name: sum(outcome[name] for outcome in done) for name in ("rows", "scored", "rejected")},
        "failed": [outcome for outcome in outcomes if "error" in outcome],
        "broken": [
            {"output": outcome["output"], "broken": outcome["broken"]}
            for outcome in done
            if outcome["broken"]
        ],
    }


def plan(inputs: tuple[Path, ...], folder: Path, form: OutputForm) -> list[dict[str, str]]:
    """Which file becomes which.

    Raises:
        Refused: an input is missing, is a folder without files, or would be overwritten; two inputs would
            write the same file; the outputs cannot be written.
    """
    ending = ".csv" if form == "submission" else f".{form}"
    sources = [source for path in inputs for source in _files(path)]
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder}: this is a file; name a folder for the outputs")
    known = {source.resolve() for source in sources}
    writers: dict[Path, Path] = {}  # each file that will be written, and the input that it belongs to
    plan = []
    for source in sources:
        name = uncompressed(str(source)).with_suffix(ending).name
        target = (folder / name).resolve()
        paths = Paths(target)
        for path in [*paths.all(), _summary_path(paths)]:
            if path in writers:
                raise Refused(f"{source} and {writers[path]} would both write {path}; rename one of them")
            if path in known:
                raise Refused(f"{path}: this is an input; it would be overwritten; name another folder")
            writers[path] = source
        plan.append({"input": str(source.resolve()), "output": str(target)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from None
    return plan


def _files(path: Path) -> list[Path]:
    """A file or a saved data set, or the files of a folder except hidden ones."""
    try:
        found = [path]
        if path.is_dir() and not is_saved_dataset(str(path)):
            found = sorted(each for each in path.iterdir() if each.is_file() and each.name[0] not in "._")
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    if not found or not all(each.is_file() or is_saved_dataset(str(each)) for each in found):
        raise Refused(f"{path}: there is no file to score")
    return found


def _summary_path(paths: Paths) -> Path:
    return paths.with_ending(".summary.json")


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster.

    Raises:
        Refused: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads both when it is imported
    # else Ray warns of actors that lose their arguments when this process ends
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise Refused(f"Ray is not installed ({error}); run: pip install '.[serve,cpu,cluster]'") from None
    # without `local`, Ray looks for the last cluster that was started here, and waits for it if it is dead
    address_used = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_address(address_used)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        ray.init(
            address=address_used,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Refused(f"no Ray cluster at {address_used}: {_one_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address that does not answer. Ray itself would retry for minutes."""
    host, separator, port = address.rpartition("//")[2].rpartition(":")
    if not separator or not port.isdigit():
        return  # `auto` or `local`
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise Refused(f"no Ray cluster at {address}: {error}") from None


def score_all(ray: Any, files: list[dict[str, str]], options: ClusterOptions) -> Iterator[dict[str, Any]]:
    """The outcome of each file, in the order in which they finish.

    Raises:
        Refused: no machine has room for a worker.
        Stopped: a worker could not load the bundle, or Ray gave up.
    """
    cores = _worker_cores(ray, options)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    outcomes = ray.data.from_items(files, override_num_blocks=len(files)).map(
        FileScorer,
        fn_constructor_args=(replace(options.scoring, output_form=options.form), cores),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(files), max_tasks_in_flight_per_actor=1),
        num_cpus=cores,
        num_gpus=options.gpus,
    )
    try:
        for number, file in enumerate(outcomes.iter_rows(), start=1):
            outcome: dict[str, Any] = {"input": file["input"], **json.loads(file["outcome"])}
            result = outcome.get("error") or outcome["broken"]
            result = result or f"{outcome['rows']:,} rows, {outcome['rejected']:,} of them rejected"
            name = Path(file["input"]).name
            print(f"scoring.cluster: {number} of {len(files)}: {name}: {result}", file=sys.stderr)
            yield outcome
    except ray.exceptions.RayError as error:
        kept = "finished files are kept; the same command continues after them"
        raise Stopped(f"{_one_line(error)}; {kept}") from None


def _worker_cores(ray: Any, options: ClusterOptions) -> int:
    """The cores of a worker: as asked for, or those of the smallest machine."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = options.cpus or min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=0)
    needed = {"CPU": cores, "GPU": options.gpus}
    fits = any(all(node.get(name, 0) >= count for name, count in needed.items()) for node in nodes)
    if cores < 1 or options.gpus < 0 or not fits:
        asked = f"{cores} cores and {options.gpus} GPUs"
        raise Refused(f"no machine of the cluster has {asked} for a worker; change --cpus or --gpus")
    return cores


def _one_line(error: BaseException) -> str:
    """The innermost reason: Ray's messages begin with the tracebacks of its workers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__


def _parse(argv: list[str] | None) -> ClusterOptions:
    parser = ScoringParser("scoring.cluster", __doc__)
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="+",
        type=Path,
        help="files in the forms of `python -m scoring`, or folders of such files",
    )
    add(
        "folder",
        metavar="FOLDER",
        type=Path,
        help="folder for the outputs, which have the names of the inputs",
    )
    add("--address", help="a Ray cluster: auto, or HOST:PORT (default: RAY_ADDRESS, else this machine)")
    add("--cpus", type=int, metavar="N", help="cores of a worker (default: those of the smallest machine)")
    add("--gpus", type=int, default=0, metavar="N", help="GPUs of a worker (default: 0)")
    parser.add_scoring_options()
    given = parser.parse_args(argv)
    return ClusterOptions(
        tuple(given.inputs),
        given.folder,
        given.address,
        given.cpus,
        given.gpus,
        parser.scoring_options(given),
    )


if __name__ == "__main__":
    sys.exit(main())
