"""The server's own OpenAPI document, turned against it by schemathesis: python -m loadtest.openapi

Every check but `positive_data_acceptance`: a body can fit the schema and still ask for a span that the
sentence does not have.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.verdict import conclude

EXCLUDED = "positive_data_acceptance"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.openapi", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--examples", type=int, default=500, help="generated requests an operation and phase")
    arguments = parser.parse_args(argv)
    with running(arguments.bundle) as server:
        command = [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{server.url}/openapi.json",
            "--checks",
            "all",
        ]
        limits = ["--exclude-checks", EXCLUDED, "--max-examples", str(arguments.examples), "--no-color"]
        finished = subprocess.run([*command, *limits], text=True, stdout=subprocess.PIPE)
    print(finished.stdout, file=sys.stderr)
    return conclude(
        "openapi", {"excluded": EXCLUDED}, {"schemathesis finds nothing": finished.returncode == 0}
    )


if __name__ == "__main__":
    sys.exit(main())
