"""Predictions over HTTP: `python -m api` serves a bundle at `POST /relations`."""

__version__ = "0.1.0"
