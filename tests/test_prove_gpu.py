"""The GPU path as far as a CPU can show it: our graphs ask only for kernels that CUDA has, and a device with
a GPU's times gets good batches. `make prove-gpu` shows more, with the libraries of CUDA."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import DEFAULT_BUNDLE
from onnx import TensorProto, helper

from benchmarks.gpu.kernels import Need, Unreadable, keep, kept, needs_of, shape_nodes
from benchmarks.gpu.placement import Placed, fallen_back
from benchmarks.gpu.prove import main as prove
from benchmarks.gpu.simulated import DEVICES, PUBLISHED_MS, bert_large, compare
from models.bundle import Bundle

pytestmark = pytest.mark.slow

FLOAT16, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def graph(*nodes: onnx.NodeProto, element: int = FLOAT16) -> onnx.ModelProto:
    """A graph from `x` to `y` at opset 18; `one` is stored in it."""
    one = onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "one")
    inputs, outputs = ([helper.make_tensor_value_info(name, element, None)] for name in "xy")
    made = helper.make_graph(list(nodes), "graph", inputs, outputs, [one])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])


def names(needs: object) -> list[str]:
    return sorted(str(need) for need in needs)  # type: ignore[attr-defined]


def test_the_default_bundle_asks_only_for_kernels_that_cuda_has() -> None:
    bundle = Bundle.open(DEFAULT_BUNDLE)
    files = [file for member in bundle.manifest.members for file in member.files if file.device == "cuda"]
    assert files
    for file in files:
        model = onnx.load(str(bundle.path / file.path), load_external_data=False)
        assert names(needs_of(model).keys() - kept()) == []


@pytest.mark.parametrize(
    ("node", "element", "missing"),
    [
        pytest.param(helper.make_node("Det", ["x"], ["y"]), FLOAT, "Det 11 (T = float)", id="no kernel"),
        pytest.param(helper.make_node("Tanh", ["x"], ["y"]), FLOAT16, None, id="a kernel"),
        pytest.param(
            helper.make_node("Tanh", ["x"], ["y"]),
            TensorProto.BFLOAT16,
            "Tanh 13 (T = bfloat16)",
            id="no kernel of this type",
        ),
    ],
)
def test_an_operator_or_a_type_without_a_kernel_is_named(
    node: onnx.NodeProto, element: int, missing: str | None
) -> None:
    needs = needs_of(graph(node, element=element))
    assert names(needs.keys() - kept()) == ([missing] if missing else [])


def test_types_are_followed_through_unsorted_nodes_and_casts() -> None:
    model = graph(
        helper.make_node("Cast", ["sum"], ["y"], to=FLOAT16),
        helper.make_node("Add", ["wide", "wide"], ["sum"]),
        helper.make_node("Cast", ["x"], ["wide"], to=FLOAT),
    )
    assert names(needs_of(model)) == [
        "Add 14 (T = float)",
        "Cast 13 (T1 = float, T2 = float16)",
        "Cast 13 (T1 = float16, T2 = float)",
    ]


def test_a_need_has_a_graph_of_its_one_node() -> None:
    (alone,) = needs_of(graph(helper.make_node("Tanh", ["x"], ["y"]))).values()
    assert [node.op_type for node in alone.graph.node] == ["Tanh"]
    assert [value.name for value in (*alone.graph.input, *alone.graph.output)] == ["x", "y"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([helper.make_node("NoSuchOperator", ["x"], ["y"])], "knows no NoSuchOperator"),
        ([helper.make_node("Add", ["x", "nowhere"], ["y"])], "no node gives Add"),
    ],
)
def test_a_graph_whose_types_do_not_follow_is_refused(nodes: list[onnx.NodeProto], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        needs_of(graph(*nodes))


def test_only_the_arithmetic_of_shapes_can_run_on_the_cpu() -> None:
    model = graph(
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Mul", ["shape", "one"], ["twice"], name="of shapes"),
        helper.make_node("Reshape", ["x", "twice"], ["flat"], name="of values"),
        helper.make_node("Tanh", ["flat"], ["y"], name="last"),
    )
    assert [node.name for node in shape_nodes(model)] == ["of shapes"]
    assert "Mul 14 (T = int64)" not in names(needs_of(model))
    assert fallen_back(model, Placed(on_cuda=3, on_cpu=("of shapes",), copies=0)) == []
    fallen = fallen_back(model, Placed(on_cuda=2, on_cpu=("of shapes", "last"), copies=2))
    assert fallen == ["last", "2 copies"]


def test_kept_kernels_are_read_as_they_were_written(tmp_path: Path) -> None:
    needs = {Need("Tanh", 13, (("T", "float16"),)), Need("com.microsoft.BiasGelu", 1, (("T", "float16"),))}
    keep(needs, "a runtime", tmp_path / "kernels.json")
    assert kept(tmp_path / "kernels.json") == needs


@pytest.mark.parametrize("device", DEVICES)
def test_the_batcher_gives_a_gpu_batches_within_5_percent_of_the_best(device: str) -> None:
    ours, best, size = compare(DEVICES[device], callers=64, answers=2000)
    assert ours >= 0.95 * best, f"{ours:.0f} rows/s; in batches of {size} rows {best:.0f}"


def test_the_simulated_device_takes_as_long_as_published() -> None:
    errors = [abs(1000 * bert_large(*batch) / ms - 1) for batch, ms in PUBLISHED_MS.items()]
    assert np.mean(errors) < 0.05
    assert max(errors) < 0.2


def test_without_an_environment_for_cuda_the_command_says_how_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prove(["--cuda-python", str(tmp_path / "python")]) == 2
    assert "run make .venv-cuda/installed" in capsys.readouterr().err
