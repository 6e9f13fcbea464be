"""A bundle out of checkpoints: optimum converts, parity proves. Needs the `export` extra; `inspect` and `verify` do not."""
