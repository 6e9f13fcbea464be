"""A bundle out of checkpoints. It needs the extra `export`; `inspect`, `verify` and `cascade` do not."""

import models  # noqa: F401  it turns ONNX Runtime's telemetry off, before that is imported
