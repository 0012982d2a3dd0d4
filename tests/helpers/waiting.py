"""Waiting for something to happen: as long as it can happen, and not for the seconds that an idle machine needs."""

import time

BACKSTOP = 30 * 60  # seconds after which something hangs, on any machine


def until(what, true, process=None, said=lambda: ""):
    """Wait for something to become true, as long as that process runs; returns what it became.

    said : what to show when it does not, beside what the process wrote to its standard error if that is a pipe.
    """
    end = time.monotonic() + BACKSTOP
    while not (found := true()):
        assert time.monotonic() < end, f"waited in vain for {what}: {said()}"
        if process is not None and process.poll() is not None:
            wrote = process.stderr.read() if process.stderr else ""
            raise AssertionError(f"the process ended before {what}: {said()}{wrote}")
        time.sleep(0.05)
    return found
