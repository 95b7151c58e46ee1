"""Waiting for what must happen soon."""

import time

# Seconds.
PATIENCE = 20


def eventually(what, condition, patience=PATIENCE):
    """Waits until `condition` gives something and hands that on."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
