"""Waiting for what must happen soon."""

import time

# In seconds.
TIMEOUT = 20


def eventually(what, condition, timeout=TIMEOUT):
    """Waits until `condition` returns something truthy, and returns that."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
