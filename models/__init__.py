"""Examples, tokens, bundle and ensemble: the code that training, export, scoring and the API share.

It imports no PyTorch, no transformers and nothing of HTTP, so that serving does not need to install them.
"""

import os

# ONNX Runtime's Linux builds report usage to Microsoft by default, and write a device id into the home
# folder. A server that reads other people's sentences must not do that. Set the variable to 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Examples are tokenised one at a time. Handing each to a pool of threads and back would cost time.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
