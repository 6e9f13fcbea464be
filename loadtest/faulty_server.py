"""`python -m api` with an engine that fails or waits on demand, for tests and trials. The product has no
switch for faults.

A line on standard input is an order: `wait` holds every run, `go` releases them, `fail N` makes the next N
runs raise. The same line on standard output says that the order is in effect. `count` is answered with the
number of runs that have failed and the number of examples in them.
"""

import os
import sys

from api.__main__ import main

if int(os.environ.get("KORE_HTTP_PROCESSES", "0")):
    from api.fronts import supervisor

    supervisor.ENGINE = "loadtest.faulty_engine"
else:
    from loadtest import faults

    faults.install()
sys.exit(main())
