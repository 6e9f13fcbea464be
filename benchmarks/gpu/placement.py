"""Which provider runs which nodes of our graphs: ONNX Runtime for CUDA decides it on a device that computes
nothing (`stub/device.c`)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from benchmarks.gpu.kernels import Need, shape_nodes
from benchmarks.gpu.member import INPUTS, SHAPES, make_model
from benchmarks.gpu.work import equal
from export.convert import convert, fuse
from export.graphs import Graphs
from models.bundle import Bundle
from models.classifier import CPU, CUDA
from models.precision import for_device
from training.model.head import HEADS

PLACE: Final = Path(__file__).with_name("stub") / "place.py"
CALIBRATION: Final = equal(8, 32)


class StubFailed(Exception):
    """ONNX Runtime made no session on the device of the stub."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where ONNX Runtime runs the nodes of an optimised graph.

    Attributes:
        on_cuda: how many nodes CUDA runs.
        on_cpu: the names of the nodes that the CPU runs.
        copies: how many nodes copy a tensor between device and host.
        needs_cudnn: a kernel of CUDA was chosen that asks for cuDNN, which the stub lacks. Then nothing else
            is known.
    """

    on_cuda: int
    on_cpu: tuple[str, ...]
    copies: int
    needs_cudnn: bool = False


def make_graphs(bundle: Bundle, folder: Path) -> Iterator[tuple[str, Path]]:
    """The name and path of every graph for CUDA: those of a bundle, and those that export makes of small
    random members, for each head and each precision."""
    for member in bundle.manifest.members:
        for file in member.files:
            if file.device == "cuda":
                yield f"{bundle.manifest.name} {member.name} {file.precision}", bundle.path / file.path
    shape = SHAPES["tiny"]
    for head in HEADS:
        model = make_model(shape, pad_token_id=1, head=head)
        place = folder / head
        place.mkdir()
        convert(model, (*INPUTS, *model.reads), place / "converted.onnx")
        fuse(place / "converted.onnx", place / "fused.onnx", shape.layers, shape.heads, shape.hidden)
        batch = CALIBRATION.batch(shape.vocabulary)
        graphs = Graphs(place / "fused.onnx", [batch], exits=1, hidden_size=shape.hidden)
        for precision in for_device("cuda"):
            yield f"{head} {precision}", graphs.paths(precision)[0]


def place(
    python: Path, environment: Mapping[str, str], graphs: Sequence[Path], folder: Path, plain: bool = False
) -> list[Placed]:
    """Make a session of each graph with the interpreter of a CUDA environment, on the stub.

    Args:
        environment: of `build_stubs`.
        folder: for files of ONNX Runtime.
        plain: without ONNX Runtime's optimiser.

    Raises:
        StubFailed: a session failed.
    """
    command = [python, PLACE, folder, *(["--plain"] if plain else []), *graphs]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if len(answers) != len(graphs):
        print(run.stderr, file=sys.stderr)
        raise StubFailed(f"{graphs[len(answers)].name}: the process ended with {run.returncode}")
    return [_placed(graph, answer) for graph, answer in zip(graphs, answers, strict=True)]


def _placed(graph: Path, answer: dict[str, Any]) -> Placed:
    if "error" in answer:
        if answer["needs_cudnn"]:
            return Placed(0, (), 0, needs_cudnn=True)
        raise StubFailed(f"{graph.name}: {answer['error']}")
    nodes = onnx.load(answer["changed"], load_external_data=False).graph.node
    given = answer["nodes"]
    return Placed(
        on_cuda=len(given.get(CUDA, [])),
        on_cpu=tuple(name or operator for operator, name in given.get(CPU, [])),
        copies=sum(node.op_type.startswith("Memcpy") for node in nodes),
    )


def have_kernels(
    python: Path, environment: Mapping[str, str], needs: Mapping[Need, onnx.ModelProto], folder: Path
) -> set[Need]:
    """The needs for which CUDA has a kernel: ONNX Runtime gives the graph of this one node to CUDA."""
    paths = []
    for number, model in enumerate(needs.values()):
        paths.append(folder / f"need-{number}.onnx")
        onnx.save(model, str(paths[-1]))
    placed = place(python, environment, paths, folder, plain=True)
    return {need for need, one in zip(needs, placed, strict=True) if one.needs_cudnn or one.on_cuda}


def fallen_back(model: onnx.ModelProto, placed: Placed) -> list[str]:
    """The nodes that the CPU runs and that do not only compute shapes, and a word on copies."""
    by_choice = {node.name for node in shape_nodes(model)}
    fallen = [name for name in placed.on_cpu if name not in by_choice]
    return fallen + ([f"{placed.copies} copies"] if placed.copies else [])
