"""The figures of a study: the metrics of its finished runs in a file, their summary, and the table."""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from training.data.files import write

PLAIN: Final = "plain"
METRICS: Final = ("micro_f1", "auprc")

Metrics = Mapping[str, float]
RunKey = tuple[str, int]
"""A method (or PLAIN) and a seed."""


class KeptFigures:
    """The metrics of finished runs in a JSON file, by method and seed. Threads can share it.

    Each entry has a hash of what its run was made of. An entry of another run counts as missing.

    Args:
        path: the file; it does not have to exist.
        made_of: what the run of a method and a seed is made of, as a value for JSON. It must not contain
            paths of this machine.
    """

    def __init__(self, path: Path, made_of: Mapping[RunKey, Any]) -> None:
        self._path = path
        self._hashes = {key: _hash(value) for key, value in made_of.items()}
        self._writing = threading.Lock()
        self._kept: dict[str, dict[str, dict[str, Any]]] = {}
        if path.exists():
            self._kept = json.loads(path.read_text(encoding="utf-8"))

    def of(self, method: str, seed: int) -> Metrics | None:
        """A run's metrics; None if it is not finished, or was another run."""
        kept = self._kept.get(method, {}).get(str(seed))
        if kept is None or kept["made_of"] != self._hashes[method, seed]:
            return None
        return {metric: kept[metric] for metric in METRICS}

    def noted(self, method: str, seed: int) -> Mapping[str, Any]:
        """What was noted about a finished run besides its metrics; empty if it is not finished."""
        if self.of(method, seed) is None:
            return {}
        entry = self._kept[method][str(seed)]
        return {name: value for name, value in entry.items() if name not in (*METRICS, "made_of")}

    def keep(
        self, method: str, seed: int, metrics: Metrics, notes: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Add a finished run and write the file.

        Args:
            notes: more about the run, such as its steps and its machine.
        """
        with self._writing:
            kept = {**{metric: metrics[metric] for metric in METRICS}, **notes}
            self._kept.setdefault(method, {})[str(seed)] = kept | {"made_of": self._hashes[method, seed]}
            write(self._path, json.dumps(self._kept, indent=1, ensure_ascii=False) + "\n")


def summarise(runs: Mapping[str, Sequence[Metrics]]) -> dict[str, dict[str, Any]]:
    """For each method and metric: its mean, its spread (largest minus smallest) over the seeds, its mean
    difference from plain, and its effect: `gain`, `harm`, or None if the difference can be chance.

    With one seed there is no spread, so every effect is None.
    """
    summary: dict[str, dict[str, Any]] = {}
    for name, metrics in runs.items():
        summary[name] = {}
        for metric in METRICS:
            values, plain = (np.array([run[metric] for run in some]) for some in (metrics, runs[PLAIN]))
            differences = values - plain
            same_sign = abs(np.sign(differences).sum()) == len(differences)
            beyond = len(plain) > 1 and abs(differences.mean()) > np.ptp(plain) and same_sign
            summary[name][metric] = {
                "mean": float(values.mean()),
                "spread": float(np.ptp(values)) if len(values) > 1 else None,
                "difference": float(differences.mean()),
                "effect": ("gain" if differences.mean() > 0 else "harm") if beyond else None,
            }
    return summary


def table(summary: Mapping[str, Mapping[str, Any]], steps: Mapping[str, int] = MappingProxyType({})) -> str:
    """The summary as a Markdown table, one line for each method.

    Args:
        steps: of the methods with training runs.
    """
    lines = [
        "| | steps | micro-F1 (spread) | over plain | AUPRC (spread) | over plain "
        "| beyond the spread of seeds |",
        "| --- " * 7 + "|",
    ]
    for name, metrics in summary.items():
        cells = [
            f"{one['mean']:.2f} ({_spread(one['spread'])}) | {one['difference']:+.2f}"
            for one in metrics.values()
        ]
        titles = zip(("micro-F1", "AUPRC"), METRICS, strict=True)
        effects = [f"{title} {effect}" for title, metric in titles if (effect := metrics[metric]["effect"])]
        unknown = any(one["spread"] is None for one in metrics.values())
        nothing = "not known from one seed" if unknown else "nothing"
        effect = "" if name == PLAIN else ", ".join(effects) or nothing
        lines.append(f"| {name} | {steps.get(name, '–')} | {' | '.join(cells)} | {effect} |")
    return "\n".join(lines) + "\n"


def _spread(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _hash(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
