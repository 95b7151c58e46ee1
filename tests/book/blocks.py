"""Runs blocks of shell commands of the documents against a new `otpd dev`.

usage: blocks.py OTPD

Runs each block that tests/book/commands lists for this script. A command must print what the
comments below it show. There `…` stands for any text, and a code, an id and a reference for any
other. What was printed in place of a code or an id is used in the commands after it, as a reader
would do.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import markdown
from check import read_table

TIMEOUT = 30.0
ROOT = Path(__file__).parents[2]
#: What differs from run to run: a code, an id with 128 random bits, a reference.
SAMPLE = re.compile(r"(?<!\d)\d{6}(?!\d)|\b[\w-]{22}\b|(?<=\"reference\":\")[A-Z]{3}")


class Failed(Exception):
    """A command did not print what its document shows."""


def steps(block: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each command of a block with the comments below it."""
    command, expected = "", []
    for line in block.rstrip("\n").split("\n"):
        if line.startswith("# "):
            expected.append(line[2:])
            continue
        if command and not command.endswith("\\\n"):
            yield command, expected
            command, expected = "", []
        command += line + ("\n" if line.endswith("\\") else "")
    yield command, expected


def pattern_of(expected: str) -> tuple[re.Pattern, list[str]]:
    """Returns what matches a printed text, with a group for each sample, and the samples."""
    samples: list[str] = []

    def pattern_of_part(part: str) -> str:
        shown, end = "", 0
        for sample in SAMPLE.finditer(part):
            shape = r"\d" if sample[0].isdecimal() else r"[\w-]"
            shown += f"{re.escape(part[end : sample.start()])}({shape}{{{len(sample[0])}}})"
            samples.append(sample[0])
            end = sample.end()
        return shown + re.escape(part[end:])

    parts = [pattern_of_part(part) for part in re.split(" *… *", expected)]
    return re.compile(".*".join(parts), re.DOTALL), samples


def run_block(where: str, block: str, origin: str, key: str) -> int:
    """Runs the commands of a block. Returns how many there were."""
    actual = {"otpd_…": key, "localhost:5000": origin}
    assignments, commands = "", 0
    for command, expected in steps(block):
        for sample, value in actual.items():
            command = command.replace(sample, value)
        if re.match(r"\w+=", command):
            assignments += command + "\n"
            continue
        done = subprocess.run(
            ["bash", "-euc", assignments + command], capture_output=True, text=True, timeout=TIMEOUT
        )
        commands += 1
        pattern, samples = pattern_of("\n".join(expected))
        found = pattern.fullmatch(done.stdout.strip())
        if done.returncode or not expected or not found:
            shown = "\n".join(expected)
            printed = (done.stdout + done.stderr)[:500]
            raise Failed(f"{where}: {command}\n  printed  {printed}\n  not      {shown}")
        for sample, value in zip(samples, found.groups(), strict=True):
            actual.setdefault(sample, value)
    return commands


def start(binary: Path, folder: str) -> tuple[subprocess.Popen, str, str]:
    """Starts `otpd dev` on a free port. Returns its process, host and port, and API key."""
    environment = {
        "PATH": os.environ["PATH"],
        "OTP_HTTP__LISTEN": "127.0.0.1:0",
        "OTP_ADMIN__LISTEN": "off",
    }
    output = Path(folder, "output")
    with output.open("w") as stream:
        process = subprocess.Popen(
            [binary, "dev"], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        said = output.read_text()
        origin = re.search(r"http://(localhost:\d+)/dev", said)
        key = re.search(r"API key +(otpd_\S+)", said)
        if origin and key and is_ready(origin[1]):
            return process, origin[1], key[1]
        time.sleep(0.05)
    process.kill()
    raise Failed(f"otpd dev is not ready:\n{output.read_text()}")


def is_ready(origin: str) -> bool:
    try:
        return urllib.request.urlopen(f"http://{origin}/readyz", timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


def listed() -> Iterator[tuple[str, str]]:
    """Yields the document and the text of each block that is to be run here."""
    for _, (page, id, _, status) in read_table(ROOT / "tests/book/commands", 4):
        if status == "run by tests/book/blocks.py":
            blocks = markdown.split((ROOT / page).read_text())[1]
            yield page, next(block.text for block in blocks if block.id == id)


def main() -> None:
    binary = Path(sys.argv[1]).resolve()
    passed, failed = 0, 0
    for page, block in listed():
        with tempfile.TemporaryDirectory() as folder:
            process, origin, key = start(binary, folder)
            try:
                passed += run_block(page, block, origin, key)
            except Failed as fault:
                print(f"FAILED  {fault}")
                failed += 1
            finally:
                process.terminate()
                process.wait()
    if not passed:
        print("FAILED  no block was run")
        failed += 1
    print(f"commands: {passed} ok, {failed} faults")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
