"""Amazon SES, Redis and otpd, as the tests share them."""

import itertools
import os
import pathlib
import sys
import types

import pytest

# The tests of the relay start Redis and otpd as these do.
sys.path.append(str(pathlib.Path(__file__).parent.parent / "relay"))

import service
from amazon import Amazon

FOLDER = pathlib.Path(os.environ["PROVIDERS_FOLDER"])
# Settings of a relay that nobody uses.
RELAY = types.SimpleNamespace(ports={"submission": 1}, ca="none")
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def redis_url():
    with service.redis(FOLDER) as url:
        yield url


@pytest.fixture(scope="session")
def the_amazon():
    amazon = Amazon()
    yield amazon
    amazon.close()


@pytest.fixture
def amazon(the_amazon):
    """Returns Amazon without a message."""
    the_amazon.empty()
    return the_amazon


@pytest.fixture
def start(amazon, redis_url):
    """Starts otpd processes that send by SES and end with the test."""
    started = []

    def start(**settings):
        folder = FOLDER / f"otpd-{next(NUMBERS)}"
        otpd = service.Otpd(folder, redis_url, RELAY, **(amazon.settings() | settings))
        started.append(otpd)
        return otpd

    yield start
    for otpd in started:
        otpd.close()


def pytest_terminal_summary(terminalreporter):
    passed, failed, broken = (len(terminalreporter.getreports(kind)) for kind in ("passed", "failed", "error"))
    terminalreporter.write_line(f"providers: {passed} passed, {failed + broken} failed")
