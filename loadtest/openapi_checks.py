"""What `loadtest.openapi` adds to schemathesis, which loads this file: when a 504 is the right answer."""

import schemathesis

TOO_SHORT_S = 1.0
"""Seconds in which an idle server answers any request that schemathesis makes."""


@schemathesis.check
def deadline_passed(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A 504 says that the deadline passed, so the request must have asked for a short one."""
    if response.status_code == 504:
        asked_s = float((case.headers or {}).get("X-Request-Timeout", "inf"))
        assert asked_s < TOO_SHORT_S, f"504, but the request had {asked_s} s"
