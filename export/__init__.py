"""A bundle out of checkpoints: optimum converts, parity proves. Needs the `export` extra; `inspect` and
`verify` do not."""

import models  # noqa: F401  before anything here imports ONNX Runtime: it turns its telemetry off
