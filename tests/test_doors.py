"""Scoring and export answer --help and refuse a wrong argument before they load a heavy library."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = [
    "torch",
    "transformers",
    "onnxruntime",
    "onnx",
    "optimum",
    "ray",
    "matplotlib",
    "sklearn",
    "pyarrow",
    "tqdm",
]
COMMANDS = {
    "scoring": ["rows.jsonl", "out.jsonl", "--top-k", "31"],
    "scoring.cluster": ["rows.jsonl", "out", "--window", "0"],
    "scoring.compare": ["only-one.jsonl"],
    "scoring.vote": ["a.jsonl", "b.jsonl"],
    "export": ["checkpoint", "--output", "docs", "--data", "rows.jsonl"],
    "export.inspect": [],
    "export.verify": ["bundle", "--device", "tpu"],
    "export.cascade": ["bundle", "--data", "rows.jsonl", "--loss", "much"],
    "export.card": ["bundle", "--data", "rows.jsonl", "--about", "no-such-file.md"],
    "export.add_cuda": ["bundle"],
    "export.whole": ["bundle", "output", "--device", "tpu"],
}
"""A wrong call of each command."""

RUN = f"""
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
finally:
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, loaded
"""


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = [sys.executable, "-c", RUN, command, *arguments]
    return subprocess.run(process, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_usage_and_an_example(command: str) -> None:
    helped = run(command, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"usage: python -m {command} ")
    assert f"  python -m {command} " in helped.stdout.partition("Example")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_argument_is_one_plain_line(command: str) -> None:
    refused = run(command, *COMMANDS[command])
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"{command}: ")
