"""What a relation is and what predicts it: the one core that training, export, scoring and the API stand on.

Imports neither PyTorch nor transformers nor anything of HTTP, so that serving installs none of what it does
not need.
"""

import os

# ONNX Runtime's Linux builds report usage to their maker unless told not to, and write a device id into the
# home folder. A server that reads other people's sentences must not; who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# One example at a time is tokenised on the thread that asks: a pool of threads would hand it over and back.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
