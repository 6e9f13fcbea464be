"""What a machine without a GPU can prove of the GPU path: python -m benchmarks.gpu.prove (make prove-gpu)

1. Libraries: ONNX Runtime's provider for CUDA finds all that it links to in the wheels and the system, but
   the driver. With a stub of the driver it loads.
2. Kernels: CUDA has a kernel for every operator, version and type of our graphs, and ONNX Runtime gives CUDA
   every node but the arithmetic of shapes. A stub of a device lets it make sessions.
3. Batches: on a simulated device with a published GPU's times, the batcher's batches are within 5 % of the
   best, in one process and with front processes.

No kernel runs. docs/gpu.md lists what still needs a card.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from loadtest.command import bundle_folder, conclude, make_parser

ROOT: Final = Path(__file__).resolve().parents[2]
Proof = tuple[dict[str, Any], dict[str, bool]]
"""Figures, and each promise with whether it was kept."""


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.gpu.prove", "Prove what can be proven of the GPU path without a GPU.", "--parts kernels"
    )
    parser.add_argument(
        "--cuda-python",
        type=Path,
        default=Path(".venv-cuda/bin/python"),
        metavar="PYTHON",
        help="interpreter of an environment with the extra `cuda` (default: %(default)s)",
    )
    parser.add_argument(
        "--bundle",
        type=bundle_folder,
        default=ROOT / "bundles" / "default",
        help="bundle with graphs for CUDA",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("libraries", "kernels", "batches", "fronts"),
        default=("libraries", "kernels", "batches", "fronts"),
        help="what to prove (default: everything)",
    )
    parser.add_argument("--keep", action="store_true", help="write the list of kernels anew")
    arguments = parser.parse_args(argv)
    parts, python = arguments.parts, arguments.cuda_python.absolute()
    if {"libraries", "kernels"}.intersection(parts) and not python.exists():
        print(f"benchmarks.gpu.prove: {python} is missing; run make .venv-cuda/installed", file=sys.stderr)
        return 2
    from benchmarks.gpu.libraries import ToolMissing

    try:
        proofs = []
        with tempfile.TemporaryDirectory() as folder:
            if "libraries" in parts:
                proofs.append(prove_libraries(python, Path(folder)))
            if "kernels" in parts:
                proofs.append(prove_kernels(python, Path(folder), arguments.bundle, arguments.keep))
        if "batches" in parts:
            proofs.append(prove_batches())
        if "fronts" in parts:
            proofs.append(prove_fronts(arguments.bundle))
    except ToolMissing as error:
        print(f"benchmarks.gpu.prove: {error}", file=sys.stderr)
        return 2
    figures = {name: value for one, _ in proofs for name, value in one.items()}
    return conclude("prove-gpu", figures, {words: kept for _, each in proofs for words, kept in each.items()})


def prove_libraries(python: Path, folder: Path) -> Proof:
    from benchmarks.gpu.libraries import DRIVER, build_stubs, failure_to_load, find_libraries

    found = find_libraries(python)
    stub = {"LD_LIBRARY_PATH": build_stubs(folder)["LD_LIBRARY_PATH"]}  # of the driver only
    failure = failure_to_load(python, stub)
    missing = [name for name in found.missing if name != DRIVER]
    figures = {
        "libraries_in_wheels": found.in_wheels,
        "libraries_in_system": found.in_system,
        "libraries_missing": found.missing,
    }
    return figures, {
        f"the provider's {len(found.in_wheels) + len(found.in_system) + 1} libraries are found "
        f"({len(found.in_wheels)} in wheels, {len(found.in_system)} in the system) but the driver's "
        f"{DRIVER}; also missing: {_words(missing)}": not missing,
        f"with a stub of {DRIVER} the provider loads; error: {failure or 'none'}": not failure,
    }


def prove_kernels(python: Path, folder: Path, bundle_path: Path, keep_them: bool) -> Proof:
    import onnx

    from benchmarks.gpu.kernels import keep, kept, needs_of
    from benchmarks.gpu.libraries import build_stubs
    from benchmarks.gpu.placement import fallen_back, have_kernels, make_graphs, place
    from models.bundle import Bundle

    graphs = dict(make_graphs(Bundle.open(bundle_path), folder))
    models = {name: onnx.load(str(path), load_external_data=False) for name, path in graphs.items()}
    needs = {need: alone for model in models.values() for need, alone in needs_of(model).items()}
    environment = build_stubs(folder)
    served = have_kernels(python, environment, needs, folder)
    if keep_them:
        keep(served, _runtime(python))
    unlisted = served ^ kept()
    placed = dict(zip(graphs, place(python, environment, list(graphs.values()), folder), strict=True))
    fallen = [
        f"{name}: {', '.join(nodes)}" for name in graphs if (nodes := fallen_back(models[name], placed[name]))
    ]
    whole = {name: one for name, one in placed.items() if not one.needs_cudnn}
    figures = {
        "onnxruntime": _runtime(python),
        "nodes": {name: {"cuda": one.on_cuda, "cpu": one.on_cpu} for name, one in whole.items()},
        "not_placed_without_cudnn": [name for name in placed if name not in whole],
    }
    return figures, {
        f"CUDA has a kernel for all {len(needs)} operators with their types in {len(graphs)} graphs; "
        f"without: {_words(str(need) for need in needs if need not in served)}": served == needs.keys(),
        f"{sum(one.on_cuda for one in whole.values())} nodes of {len(whole)} graphs run on CUDA, "
        f"{sum(len(one.on_cpu) for one in whole.values())} that compute shapes on the CPU, none is copied; "
        f"fallen back: {_words(fallen)}": not fallen,
        f"cuda_kernels.json lists these kernels; differences: {_words(map(str, unlisted))}": not unlisted,
    }


def prove_batches() -> Proof:
    from benchmarks.gpu.simulated import DEVICES, compare

    figures, promises = {}, {}
    for name, seconds in DEVICES.items():
        for callers in (16, 64, 256):
            ours, best, size = compare(seconds, callers)
            figures[f"{name}, {callers} callers"] = {"rows_per_s": ours, "best": best, "size": size}
            words = (
                f"{name}, {callers} callers: {ours:.0f} rows/s, {ours / best:.3f} of the best ({size} rows)"
            )
            promises[words] = ours >= 0.95 * best
    return {"batches": figures}, promises


def prove_fronts(bundle: Path) -> Proof:
    from benchmarks.gpu.simulated_http import measure_fronts

    figures, promises = {}, {}
    for fronts in (0, 2):
        found = measure_fronts(bundle, fronts)
        name = f"{fronts} front processes"
        figures[name] = found
        rate, ratio = found["rows_per_device_s"], found["ratio"]
        promises[f"{name}: {rate:.0f} rows per second of the device, {ratio:.3f} of the best"] = ratio >= 0.95
        promises[f"{name}: every request was answered"] = not found["errors"]
    return {"fronts": figures}, promises


def _runtime(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('onnxruntime-gpu'))"
    run = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return f"onnxruntime-gpu {run.stdout.strip()}"


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


if __name__ == "__main__":
    sys.exit(main())
