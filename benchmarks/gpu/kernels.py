"""What a graph asks of CUDA's kernels: operators, their versions and their types.

ONNX Runtime gives a node to CUDA if CUDA's provider has a kernel for the node's operator, version and types.
Any other node runs on the CPU, between copies from and to the device. `cuda_kernels.json` lists what ONNX
Runtime gave to CUDA; `python -m benchmarks.gpu.prove --keep` writes it. The tests compare our graphs with it.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

KEPT: Final = Path(__file__).with_name("cuda_kernels.json")
WHOLE_NUMBERS: Final = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


class Unreadable(ValueError):
    """The types of a graph cannot be followed."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a node asks of a kernel.

    Attributes:
        operator: with its domain, if it has one.
        version: of the operator set in which the operator changed last.
        types: pairs of a type variable of the operator's schema and its type, such as ("T", "float16").
    """

    operator: str
    version: int
    types: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        types = ", ".join(f"{variable} = {type_}" for variable, type_ in self.types)
        return f"{self.operator} {self.version} ({types})"


def kept(path: Path = KEPT) -> set[Need]:
    """The needs that a file of `keep` lists."""
    rows = json.loads(path.read_text(encoding="utf-8"))["kernels"]
    return {Need(operator, version, tuple(types.items())) for operator, version, types in rows}


def keep(needs: Collection[Need], source: str, path: Path = KEPT) -> None:
    """Write a file for `kept`, one need per line."""
    rows = [
        f"  {json.dumps([need.operator, need.version, dict(need.types)])}" for need in sorted(needs, key=str)
    ]
    text = f'{{\n "source": {json.dumps(source)},\n "kernels": [\n' + ",\n".join(rows) + "\n ]\n}\n"
    path.write_text(text, encoding="utf-8")


def needs_of(model: onnx.ModelProto) -> dict[Need, onnx.ModelProto]:
    """What a graph asks of kernels before ONNX Runtime optimises it, and for each need a graph of one node.
    `shape_nodes` are left out.

    1. Start with the types of the graph's inputs and stored tensors.
    2. Take each node whose inputs have types. Bind the type variables of its schema to them.
    3. Give its outputs their types, and repeat until no node is left.

    Raises:
        Unreadable: a schema is unknown, a type does not follow from it, or a node has a subgraph.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    of_shapes = {node.output[0] for node in shape_nodes(model)}
    found: dict[Need, onnx.ModelProto] = {}
    left = list(model.graph.node)  # ONNX Runtime's tools do not sort them
    while left:
        ready = [node for node in left if all(name in types for name in node.input if name)]
        left = [node for node in left if not all(name in types for name in node.input if name)]
        if not ready:
            raise Unreadable(f"no node gives {left[0].op_type} {left[0].name} its inputs")
        for node in ready:
            schema = _schema(node, opsets[node.domain])
            bound = _bind(node, schema, types)
            # of a Constant ONNX Runtime stores the tensor, and drops the node
            if node.op_type != "Constant" and node.output[0] not in of_shapes:
                operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                need = Need(operator, schema.since_version, tuple(sorted(bound.items())))
                found.setdefault(need, _alone(node, types, model))
    return found


def shape_nodes(model: onnx.ModelProto) -> list[NodeProto]:
    """The nodes that compute only whole numbers, and only from the shapes of tensors. ONNX Runtime can run
    them on the CPU by choice: it knows shapes there, so these few numbers need no copy."""
    constants = {tensor.name for tensor in model.graph.initializer if tensor.data_type in WHOLE_NUMBERS}
    constants |= {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Constant" and _given_type(node) in WHOLE_NUMBERS
    }
    shapes = {node.output[0] for node in model.graph.node if node.op_type == "Shape"}
    found: list[NodeProto] = []
    left = [node for node in model.graph.node if node.op_type not in ("Constant", "Shape")]
    while new := [node for node in left if _reads_shapes(node, shapes, constants)]:
        found += new
        left = [node for node in left if not _reads_shapes(node, shapes, constants)]
        shapes |= {name for node in new for name in node.output}
    return found


def _reads_shapes(node: NodeProto, shapes: Collection[str], constants: Collection[str]) -> bool:
    names = [name for name in node.input if name and name not in constants]
    whole = _given_type(node) in (None, *WHOLE_NUMBERS)
    return whole and bool(names) and all(name in shapes for name in names)


def _bind(node: NodeProto, schema: Any, types: dict[str, int]) -> dict[str, str]:
    """The types of a schema's variables at a node. Adds the types of the node's outputs to `types`."""
    variables = {each.type_param_str: sorted(each.allowed_type_strs) for each in schema.type_constraints}
    bound: dict[str, str] = {}

    def parameter(parameters: Any, place: int) -> str:
        return str(parameters[min(place, len(parameters) - 1)].typeStr)  # the last one can be variadic

    for place, name in enumerate(node.input):
        if name and (variable := parameter(schema.inputs, place)) in variables:
            bound[variable] = _name(types[name])
    for place, name in enumerate(node.output):
        if not name:
            continue
        variable = parameter(schema.outputs, place)
        given = _given_type(node)
        if given is not None:
            types[name] = given
        elif variable in bound:
            types[name] = _number(bound[variable])
        else:
            allowed = variables.get(variable, [variable])
            if len(allowed) > 1:
                raise Unreadable(f"{node.op_type} {node.name}: the type of {name} does not follow")
            types[name] = _number(allowed[0].removeprefix("tensor(").removesuffix(")"))
        if variable in variables:
            bound[variable] = _name(types[name])
    return bound


def _given_type(node: NodeProto) -> int | None:
    """The type of the output of an operator that has it as an attribute."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Cast":
        return int(attributes["to"].i)
    if node.op_type in ("Constant", "ConstantOfShape"):
        return int(attributes["value"].t.data_type) if "value" in attributes else TensorProto.FLOAT
    return None


def _alone(node: NodeProto, types: dict[str, int], model: onnx.ModelProto) -> onnx.ModelProto:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, types[name], None) for name in dict.fromkeys(names) if name]
        for names in (node.input, node.output)
    )
    return helper.make_model(
        helper.make_graph([node], "alone", inputs, outputs),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


def _name(element: int) -> str:
    return str(TensorProto.DataType.Name(element)).lower()


def _number(name: str) -> int:
    return int(TensorProto.DataType.Value(name.upper()))


@cache
def _schemas() -> dict[tuple[str, str], list[Any]]:
    """ONNX Runtime's schemas, the newest of each operator first."""
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in sorted(get_all_operator_schema(), key=lambda schema: -schema.since_version):
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found


def _schema(node: NodeProto, opset: int) -> Any:
    if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
        raise Unreadable(f"{node.op_type} {node.name} has a subgraph")
    for schema in _schemas().get((node.domain, node.op_type), []):
        if schema.since_version <= opset:
            return schema
    raise Unreadable(f"ONNX Runtime knows no {node.op_type} of domain {node.domain!r}, version {opset}")
