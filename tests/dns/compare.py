"""Compares what otpd doctor --dns and checkdmarc say of the same domains."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.resolver
from checkdmarc.dmarc import check_dmarc
from checkdmarc.spf import check_spf

ZONES = Path("tests/it/fixtures/dns")
SECRET = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"

# The domains of the zone that are senders.
DOMAINS = [
    "good", "sub.good", "nospf", "twospf", "ten", "eleven", "everyone", "loop", "void", "badspf", "emptyinclude",
    "brokeninclude", "dkim", "nodmarc", "twodmarc", "baddmarc", "misaligned", "nullmx", "nomx", "nomail", "broken",
]
# Where checkdmarc says otherwise, and why otpd does not follow it.
OTHERWISE = {
    ("everyone", "SPF"): "+all is valid, and allows everybody",
}


@dataclass
class Verdict:
    """Whether a record is valid, and the number of look-ups, if it was said."""

    valid: bool
    lookups: int | None
    said: str


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def name_server(folder: Path) -> Iterator[dns.resolver.Resolver]:
    """Starts Knot DNS and returns a resolver that asks it."""
    port = free_port()
    config = (ZONES / "knot.conf").read_text()
    for name, value in {"FOLDER": folder, "PORT": port, "ZONES": ZONES.resolve()}.items():
        config = config.replace(name, str(value))
    (folder / "knot.conf").write_text(config)
    with (folder / "knot.log").open("w") as log:
        process = subprocess.Popen(["knotd", "-c", str(folder / "knot.conf")], stdout=log, stderr=log)
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], port, 2
    try:
        for _ in range(100):
            with contextlib.suppress(dns.exception.DNSException):
                resolver.resolve("good.test", "TXT")
                break
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            sys.exit("Knot DNS does not answer: " + (folder / "knot.log").read_text())
        yield resolver
    finally:
        process.terminate()
        process.wait()


def doctor(domain: str, port: int, folder: Path) -> str:
    """Returns what otpd doctor --dns says of the domain of the sender."""
    settings = {
        "EMAIL_SENDER": f"codes@{domain}",
        "OTP_DNS__SERVERS": f"127.0.0.1:{port}",
        # Nothing is there: only the records matter.
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": "1",
        "OTP_SMTP__AUTH": "none",
        "OTP_SMTP__TLS": "none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "OTP_SECRETS__PEPPERS": f"k1:{SECRET}",
        "OTP_SECRETS__INDEX_KEY": SECRET,
    }
    said = subprocess.run(
        [os.environ["OTPD_BIN"], "doctor", "--dns"], env=settings, cwd=folder, capture_output=True, text=True, timeout=120
    )
    return said.stdout + said.stderr


def ours(said: str, kind: str, domain: str) -> Verdict:
    """Returns the verdict in a line such as `ok    SPF of good.test: …`."""
    line = re.search(rf"^(ok  |note|FAIL)  {kind} of {re.escape(domain)}: (.*)$", said, re.MULTILINE)
    if line is None:
        return Verdict(False, None, f"no line: {said}")
    count = re.search(r"(\d+) of 10 DNS look-ups|it takes (\d+) DNS look-ups", line[2])
    return Verdict(line[1] == "ok  ", int(count[1] or count[2]) if count else None, line[0])


def theirs(kind: str, domain: str, resolver: dns.resolver.Resolver) -> Verdict:
    check = check_spf if kind == "SPF" else check_dmarc
    result = check(domain, resolver=resolver, timeout=2, retries=0)
    return Verdict(result["valid"], result.get("dns_lookups"), str(result.get("error", "")))


def main() -> None:
    passed = failed = 0
    with tempfile.TemporaryDirectory() as name, name_server(Path(name)) as resolver:
        for domain in DOMAINS:
            said = doctor(f"{domain}.test", resolver.port, Path(name))
            for kind in ("SPF", "DMARC"):
                own, other = ours(said, kind, f"{domain}.test"), theirs(kind, f"{domain}.test", resolver)
                agrees = own.valid == other.valid
                # Neither counts if it stops at another fault.
                if agrees and kind == "SPF" and (own.valid or None not in (own.lookups, other.lookups)):
                    agrees = own.lookups == other.lookups
                if (domain, kind) in OTHERWISE:
                    agrees = not agrees
                passed, failed = passed + agrees, failed + (not agrees)
                print(f"{'ok    ' if agrees else 'FAILED'}  {kind} of {domain}.test: {own.lookups}, {other.lookups}")
                if not agrees:
                    print(f"        otpd: {own}\n        checkdmarc: {other}")
    print(f"dns: {passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
