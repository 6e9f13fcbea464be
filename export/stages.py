"""A trunk with several exits as a chain of graphs, one for each exit, cut from one fused graph.

    token ids -> layers 1 to 3 -> logits         stage 1: the cost of a row that stops at the first exit
                    | states
                    layers 3 to 6 -> logits      stage 2: only for the rows that go on
                        | states
                        layers 6 to 12 -> logits

A stage ends in the middle of its last layer. The products after that layer's attention are three quarters of
the layer, and a head needs them for two tokens only. So the stage computes them for these tokens
(export/narrow.py), and the next stage computes them for all tokens. The states are therefore two tensors: the
output of the attention, and the input of the layer.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper

from export.edit import rename_inputs, replace
from export.narrow import last_layer, narrow, only
from models.classifier import LOGITS, STATES_IN, STATES_OUT

ROWS, TOKENS = "rows", "tokens"


class _Cut(NamedTuple):
    """The names of the two tensors of the fused graph that a stage gives to the next one."""

    context: str
    residual: str


def exit_names(exits: int) -> tuple[str, ...]:
    """The names of the outputs of a graph with this number of exits; `logits` for one exit."""
    return (LOGITS,) if exits == 1 else tuple(f"{LOGITS}_{number}" for number in range(1, exits + 1))


def stages(model: onnx.ModelProto, exits: int, hidden_size: int) -> list[onnx.ModelProto]:
    """Cut a fused graph, which can be quantised, into one narrow graph for each exit.

    1. Keep what the logits of one exit need: the layers up to this exit, and its head.
    2. Narrow the last of these layers to the tokens that the head reads.
    3. Replace all that comes before the previous exit's cut by two inputs.
    4. Add this exit's own cut as two outputs, unless it is the last exit.
    5. Repeat for the next exit.
    """
    if exits == 1:
        return [narrow(model)]
    graphs: list[onnx.ModelProto] = []
    before: _Cut | None = None
    for number, name in enumerate(exit_names(exits), start=1):
        of_exit = only(model, [name])
        after = None if number == exits else _Cut(*last_layer(of_exit))
        graphs.append(_stage(narrow(of_exit), name, before, after, hidden_size))
        before = after
    return graphs


def join(chain: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """The last exit of a chain as one graph from token ids to logits, without the heads of the other exits.

    Each tensor's name starts with the number of its stage.
    """
    whole = copy.deepcopy(chain[0])
    graph = whole.graph
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    inputs = {
        value.name: value for stage in chain for value in stage.graph.input if value.name not in STATES_IN
    }
    for number, stage in enumerate(chain, start=1):
        part = only(stage, [LOGITS] if stage is chain[-1] else list(STATES_OUT)).graph
        made = {name for node in part.node for name in node.output}
        made |= {tensor.name for tensor in part.initializer}
        names = {name: f"{number}/{name}" for name in made}
        names |= {taken: f"{number - 1}/{name}" for taken, name in zip(STATES_IN, STATES_OUT, strict=True)}
        _rename(part, names)
        for node in part.node:
            node.name = node.output[0]
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
    _rename(graph, {f"{len(chain)}/{LOGITS}": LOGITS})
    graph.input.extend(inputs.values())
    graph.output.extend(value for value in chain[-1].graph.output if value.name == LOGITS)
    return whole


def _stage(
    model: onnx.ModelProto, logits: str, before: _Cut | None, after: _Cut | None, hidden_size: int
) -> onnx.ModelProto:
    """The part of an exit's graph between two cuts, with the names of models/classifier.py."""
    graph = model.graph
    names = {logits: LOGITS}
    if before is not None:
        names |= dict(zip(before, STATES_IN, strict=True))
        replace(graph.node, (node for node in graph.node if not set(before).intersection(node.output)))
        graph.input.extend(_states(STATES_IN, hidden_size))
    if after is not None:
        names |= dict(zip(after, STATES_OUT, strict=True))
        graph.output.extend(_states(STATES_OUT, hidden_size))
    _rename(graph, names)
    return only(model, [output.name for output in graph.output])


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors of a graph in place. Its inputs keep their names."""
    for node in graph.node:
        rename_inputs(node, names)
        node.output[:] = [names.get(name, name) for name in node.output]
    for named in (*graph.initializer, *graph.output):
        named.name = names.get(named.name, named.name)


def _states(names: Sequence[str], hidden_size: int) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, TOKENS, hidden_size]) for name in names
    ]
