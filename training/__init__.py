"""Checkpoints out of data: the room where members of an ensemble are trained. Needs the `train` extra (PyTorch, transformers)."""
