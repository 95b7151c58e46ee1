"""Redis and `otpd serve` as processes of a test, and calls to the latter."""

import base64
import concurrent.futures
import contextlib
import functools
import http.client
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess

from postfix import PASSWORD, USER
from waiting import eventually

BINARY = os.environ["OTPD_BIN"]
# The setting that tells otpd the certificate authority of the relay.
CA_SETTING = "OTP_SMTP__CA_FILE"
# These end with the tests, however those end.
TOGETHER = ["setpriv", "--pdeathsig", "KILL"]
WIDE = "100000/1h"
BRAND = "Bücher, & mehr"
# What is left out of the log that is shown with a failure.
EXPECTED = ('"level":"INFO"', '"outcome":"sent"')


def secret():
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


@functools.cache
def api_key(label):
    """Returns a new API key and its hash for the settings."""
    words = [BINARY, "keygen", "api-key", "--label", label]
    printed = subprocess.run(words, check=True, capture_output=True, text=True, env={}).stdout
    return [re.search(rf"^{word} +(\S+)", printed, re.MULTILINE)[1] for word in ("key", "hash")]


@contextlib.contextmanager
def redis(folder):
    """Returns the URL of a new Redis."""
    socket = folder / "redis.sock"
    words = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
    process = subprocess.Popen([*TOGETHER, *words], stdout=subprocess.DEVNULL)
    try:
        eventually("Redis", socket.exists)
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()


class Otpd:
    """`otpd serve` with hashes that take microseconds and limits that no test reaches."""

    def __init__(self, folder, redis_url, relay, service="submission", config="", **settings):
        self._folder = pathlib.Path(folder)
        self._folder.mkdir()
        (self._folder / "config.toml").write_text(config)
        settings = {
            "OTP_HTTP__LISTEN": "127.0.0.1:0",
            "OTP_HTTP__SHUTDOWN_DELAY": "0s",
            "OTP_ADMIN__LISTEN": "off",
            "OTP_LOG__FORMAT": "json",
            "OTP_LOG__LEVEL": "trace",
            "EMAIL_SENDER": USER,
            "EMAIL_PASSWORD": PASSWORD,
            "OTP_MAIL__BRAND": BRAND,
            "SMTP_SERVER": "localhost",
            "SMTP_PORT": str(relay.ports[service]),
            CA_SETTING: str(relay.ca),
            "REDIS_URL": redis_url,
            "OTP_SECRETS__PEPPERS": f"k1:{secret()}",
            "OTP_SECRETS__INDEX_KEY": secret(),
            "OTP_TENANT__KEYS": api_key("default")[1],
            "OTP_HASH__MEMORY_KIB": "64",
            "OTP_HASH__PASSES": "1",
            "OTP_HASH__QUEUE": "1000",
            "OTP_DANGEROUS__WEAK_HASH": "true",
            "OTP_DANGEROUS__WEAK_LIMITS": "true",
            "OTP_LIMITS__IP_SENDS": WIDE,
            "OTP_LIMITS__IP_ATTEMPTS": WIDE,
            "OTP_LIMITS__EMAIL_SENDS": WIDE,
            "OTP_LIMITS__IP_EMAIL_SENDS": WIDE,
            "OTP_LIMITS__IP_EMAIL_ATTEMPTS": WIDE,
            "OTP_LIMITS__EMAIL_SENDS_TOTAL": WIDE,
            "OTP_LIMITS__KEY_SENDS_PER_MINUTE": "100000",
            "OTP_LIMITS__KEY_CHECKS_PER_MINUTE": "100000",
            "OTP_LIMITS__IP_REQUESTS_PER_SECOND": "0",
        } | settings
        with (self._folder / "log").open("wb") as log:
            words = [*TOGETHER, BINARY, "--config", "config.toml", "serve"]
            self.process = subprocess.Popen(words, cwd=self._folder, env=settings, stdout=log, stderr=log)
        try:
            self.port = eventually("a port", self._announced_port)
            eventually("/readyz", lambda: self.call("GET", "/readyz")[0] == 200)
        except BaseException:
            self.close()
            raise

    def _announced_port(self):
        assert self.process.poll() is None, self._log()
        found = re.search(r'"listening","address":"127.0.0.1:(\d+)"', self._log())
        return found and int(found[1])

    def _log(self):
        return (self._folder / "log").read_text(errors="replace")

    def whole_log(self):
        """Ends the process, because lines are written after the response, and returns its log."""
        assert self.terminate() == 0, self._log()
        return self._log()

    def told(self):
        return "otpd", [line for line in self._log().splitlines() if not any(word in line for word in EXPECTED)]

    def call(self, method, path, body=None, key=None):
        """Returns the status and the JSON of an answer, over a new connection."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else None
        finally:
            connection.close()

    def send(self, address):
        return self.call("POST", "/send-otp", {"email": address})

    def verify(self, address, code):
        return self.call("POST", "/verify-otp", {"email": address, "otp": code})

    def create(self, address, key=None):
        return self.call("POST", "/v1/verifications", {"email": address}, key or api_key("default")[0])

    def check(self, id, code, key=None):
        return self.call("POST", f"/v1/verifications/{id}/check", {"code": code}, key or api_key("default")[0])

    def terminate(self):
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def close(self):
        self.process.kill()
        self.process.wait()


def at_once(function, arguments, callers):
    """Calls the function for each argument with this many concurrent callers, and returns the
    results.
    """
    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        return list(pool.map(function, arguments))
