"""Requests generated from the server's own OpenAPI document by schemathesis: python -m loadtest.openapi

Promise: no check fails. One check is left out, `positive_data_acceptance`: a body can fit the schema and
still ask for a span that the sentence does not have. A 504 is right where the request has asked for a
deadline that no server can meet (`openapi_checks.py`): schemathesis sends `X-Request-Timeout: 5e-324`.
"""

import os
import subprocess
import sys
from pathlib import Path

from loadtest.command import add_bundle, conclude, make_parser
from loadtest.server import ROOT, running

CONFIGURATION = Path(__file__).with_suffix(".toml")
EXCLUDED = "positive_data_acceptance"


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "loadtest.openapi", "Send requests that schemathesis makes of the OpenAPI document.", "--examples 50"
    )
    add_bundle(parser)
    parser.add_argument(
        "--examples",
        type=int,
        default=500,
        help="requests for each operation and phase (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    with running(arguments.bundle) as server:
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION]
        command += ["run", f"{server.url}/openapi.json"]
        command += ["--checks", "all", "--exclude-checks", EXCLUDED, "--no-color"]
        command += ["--max-examples", str(arguments.examples)]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "loadtest.openapi_checks", "PYTHONPATH": str(ROOT)}
        finished = subprocess.run(command, text=True, stdout=subprocess.PIPE, env=environment)
    print(finished.stdout, file=sys.stderr)
    promises = {"schemathesis finds nothing": finished.returncode == 0}
    return conclude("openapi", {"excluded": EXCLUDED}, promises)


if __name__ == "__main__":
    sys.exit(main())
