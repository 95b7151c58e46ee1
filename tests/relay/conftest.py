"""The processes that the tests share, and the logs that are shown if one fails."""

import itertools
import os
import pathlib
import signal

import pytest

# Before the imports, so that the asserts of these modules are as detailed as those of a test.
pytest.register_assert_rewrite("delivered", "dovecot", "service", "postfix")

import service
from postfix import LogMark, Postfix

FOLDER = pathlib.Path(os.environ["RELAY_FOLDER"])
# How many lines of a log are shown.
TAIL = 40

# Handled like Ctrl-C, so that everything that was started is stopped.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_url():
    with service.redis(FOLDER) as url:
        yield url


@pytest.fixture(scope="session")
def the_relay():
    relay = Postfix(FOLDER / "postfix")
    try:
        yield relay
    finally:
        relay.close()


@pytest.fixture
def relay(the_relay, request):
    """Returns the one Postfix, with an empty Maildir."""
    request.node.logs = [LogMark(the_relay)]
    if not the_relay.runs():
        the_relay.start()
    the_relay.empty()
    return the_relay


NUMBERS = itertools.count(1)


@pytest.fixture
def start(relay, redis_url, request):
    """Starts otpd processes that end with the test. The same `secrets` make them one service."""
    started = []

    def start(**settings):
        otpd = service.Otpd(FOLDER / f"otpd-{next(NUMBERS)}", redis_url, relay, **settings)
        started.append(otpd)
        request.node.logs.append(otpd)
        return otpd

    yield start
    for otpd in started:
        otpd.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of each log with a failure; of otpd, its warnings."""
    report = yield
    if report.failed:
        for log in getattr(item, "logs", []):
            name, lines = log.told()
            report.sections.append((f"the log of {name}", "\n".join(lines[-TAIL:])))
    return report


def pytest_terminal_summary(terminalreporter):
    passed, failed, broken = (len(terminalreporter.getreports(kind)) for kind in ("passed", "failed", "error"))
    terminalreporter.write_line(f"relay: {passed} passed, {failed + broken} failed")
