"""Makes a session of each graph on a GPU of `device.c`, and tells which provider runs which nodes:

    LD_PRELOAD=device.so python place.py FOLDER [--plain] GRAPH GRAPH …

It runs in an environment that has little more than ONNX Runtime for CUDA. It prints one JSON object for each
graph, and writes the graph as ONNX Runtime changed it into the folder. `--plain` switches ONNX Runtime's
optimiser off.
"""

import json
import os
import sys
from typing import Any

import onnxruntime
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

CUDA = "CUDAExecutionProvider"
NO_CUDNN = "cuDNN is unavailable"


def place(graph: str, changed: str, plain: bool) -> dict[str, Any]:
    """The operators and names of the nodes of each provider; writes the file `changed`.

    The stub has no cuDNN. The kernel of CUDA that asks for it has been chosen by then.
    """
    options = SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.optimized_model_filepath = changed
    if plain:
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = InferenceSession(graph, options, providers=[CUDA], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return {"needs_cudnn": NO_CUDNN in str(error), "error": str(error)}
    nodes: dict[str, list[tuple[str, str]]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, []).extend((node.op_type, node.name) for node in part.get_nodes())
    return {"nodes": nodes, "changed": changed}


def main() -> None:
    onnxruntime.preload_dlls(cudnn=False)
    onnxruntime.set_default_logger_severity(4)
    folder, *graphs = (argument for argument in sys.argv[1:] if argument != "--plain")
    for number, graph in enumerate(graphs):
        changed = os.path.join(folder, f"changed-{number}.onnx")
        print(json.dumps(place(graph, changed, "--plain" in sys.argv)), flush=True)
    os._exit(0)  # without a real device, CUDA's libraries cannot clean up


if __name__ == "__main__":
    main()
