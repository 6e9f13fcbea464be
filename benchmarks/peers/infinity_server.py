"""infinity: `/classify` over its ONNX Runtime engine, with the plain classifier of classifier.py."""

import os
import sys

from benchmarks.peers.setup import CLASSIFIER, PeerSetup

if __name__ == "__main__":
    setup = PeerSetup.from_environment()
    options = {
        "model-id": ".",  # with the path of a folder, infinity does not find the graph in it
        "served-model-name": CLASSIFIER,
        "engine": "optimum",
        "device": "cpu",
        "batch-size": setup.batch,
        "host": "127.0.0.1",
        "port": setup.port,
        "log-level": "warning",
    }
    program = os.path.join(os.path.dirname(sys.executable), "infinity_emb")
    os.chdir(setup.bundle)
    given = [f"--{name}={value}" for name, value in options.items()]
    # the warm-up sends texts that are longer than the model's window, and fails
    os.execv(program, [program, "v2", *given, "--no-model-warmup"])
