"""Waiting for what must happen soon."""

import time

# In seconds.
PATIENCE = 20


def eventually(what, condition, patience=PATIENCE):
    """Waits until `condition` returns something truthy, and returns that."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
