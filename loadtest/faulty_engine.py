"""The engine process of `loadtest.faulty_server`, when front processes do the HTTP."""

import sys

from api.fronts.engine import main
from loadtest import faults

faults.install()
sys.exit(main())
