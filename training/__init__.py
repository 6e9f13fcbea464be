"""Checkpoints out of data: the room where members of an ensemble are trained. Needs the `train` extra
(PyTorch, transformers)."""

import importlib.util
import sys

if missing := [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]:
    print(
        f"training and export need {' and '.join(missing)}: make .venv/develop installs what they need",
        file=sys.stderr,
    )
    raise SystemExit(2)
