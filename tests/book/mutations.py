"""Makes faults on purpose in a copy of the repository. Each must be found, and named.

usage: mutations.py ROOT BOOK MDBOOK OTPD
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from check import SKIPPED, check, first_line, shell_blocks

#: A fault: the file, what is replaced in it, by what, and a part of the message that must come.
DOCUMENTS = [
    ("README.md", "(docs/deploy.md)", "(docs/deployment.md)", "there is no such file"),
    ("README.md", "(docs/deploy.md)", "(docs/Deploy.md)", "there is no such file"),
    ("README.md", "(docs/deploy.md)", "(../docs/deploy.md)", "there is no such file"),
    ("README.md", "deploy.md#the-binary", "deploy.md#binary", "there is no such heading"),
    ("README.md", "images/dev.png", "images/devs.png", "there is no such file"),
    ("README.md", "<http://localhost:5000/dev>", "<http://local_host/dev>", "malformed"),
    ("README.md", "<http://localhost:5000/docs>", "<http://localhost:port/docs>", "malformed"),
    ("README.md", "release -- dev\n", "release -- serve\n", "README.md has no block 'cargo run"),
    ("README.md", "\ntests/run\n", "\ntests/all\n", "README.md has no block 'tests/run"),
    ("README.md", "\n## Try it\n", "\n" * 30 + "## Try it\n", "more than 120"),
    ("SECURITY.md", "(docs/failover.md)", "(docs/failovers.md)", "SECURITY.md:"),
    ("ARCHITECTURE.md", "(docs/decisions.md)", "(decisions.md)", "ARCHITECTURE.md:"),
    ("CONTRIBUTING.md", "(ARCHITECTURE.md)", "(ARCHITECTURES.md)", "CONTRIBUTING.md:"),
    ("CHANGELOG.md", "(https://semver.org/)", "(https:/semver.org/)", "CHANGELOG.md:"),
    ("docs/deploy.md", "## The binary\n", "## A binary\n", "README.md"),
    ("docs/limits.md", "(settings.md#limits)", "(settings.md#limit)", "docs/limits.md:"),
    ("docs/SUMMARY.md", "- [Backup](backup.md)\n", "", "docs/backup.md is 0 times"),
    ("docs/SUMMARY.md", "](traces.md)\n", "](traces.md)\n- [B](traces.md)\n", "is 2 times"),
    ("docs/deploy.md", "otpd init ", "otpd  init ", "not in tests/book/commands"),
    ("docs/deploy.md", "otpd init ", "otpd  init ", "docs/deploy.md has no block"),
    ("docs/deploy.md", "\nOTP_TENANT__KEYS=", "\nOTP_TENANTS__KEYS=", "is not a setting"),
    ("docs/rotation.md", "\n## Rot", "\n```sh\nls\n```\n\n## Rot", "not in tests/book/commands"),
    ("tests/book/commands", "run by tests/book/blocks.py", "run by tests/book/x", "does not name"),
    ("tests/book/commands", "run by tests/book/blocks.py", "run by hand", "is no status"),
    ("tests/book/commands", "run by tests/book/blocks.py", "not run:", "is no status"),
    ("tests/book/commands", "| tests/run |", "| tests/runs |", "the block begins with"),
    ("tests/book/questions", "limits.md#limits", "limits.md#limit", "has no heading"),
    ("tests/book/questions", "limits.md#limits", "limit.md#limits", "there is no docs/limit.md"),
    ("tests/book/questions", "limits.md#limits", "limits.md", "has no heading"),
    ("tests/book/questions", "docs/limits.md#limits", "docs/far.md#far", "is 3 clicks"),
    ("tests/book/questions", "docs/limits.md#limits", "docs/lone.md#lone", "is None clicks"),
]
#: The same in the book that was built.
BOOK = [
    ("deploy.html", 'href="debian.html', 'href="debians.html', "there is no such file"),
    ("deploy.html", 'href="#the-binary"', 'href="#binary"', "there is no such anchor"),
    ("security.html", "SECURITY.html#known", "SECURITY.html#unknown", "there is no such anchor"),
    ("security.html", "repository/SECURITY.html", "../SECURITY.html", "there is no such file"),
    ("index.html", "<main>", '<main><img src="https://example.com/a.png">', "from elsewhere"),
    ("index.html", "<main>", '<main><script src="//example.com/a.js"></script>', "from elsewhere"),
    ("index.html", "<main>", '<main><a href="https://a b/">x</a>', "malformed"),
]
#: Faults that stop the build, or that mdBook warns of.
BUILD = [
    ("docs/SUMMARY.md", "(backup.md)", "(backups.md)"),
    ("docs/backup.md", "# Backup\n", "# Backup\n\n<b>open</i>\n"),
    ("book.toml", 'title = "otpd"', 'tilte = "otpd"'),
]
#: Faults in what the documents show of commands.
BLOCKS = [
    ("README.md", 'OTP verified successfully"}', 'OTP accepted"}'),
    ("docs/api.md", '"purpose":"login"}\'', '"purpose":"log in"}\''),
    ("docs/api.md", '"status":"approved"', '"status":"valid"'),
]
#: Pages that are three clicks away, and that nothing leads to.
FAR = {
    "docs/middle.md": "# Middle\n\n[far](far.md)\n",
    "docs/far.md": "# Far\n",
    "docs/lone.md": "# Lone\n",
}
#: A picture that is too large.
PICTURE = "docs/images/large.png"


class Copy:
    """A copy of the repository and of the book, with one fault at a time."""

    def __init__(self, place: Path, root: Path, book: Path) -> None:
        self.root, self.book = place / "root", place / "book"
        shutil.copytree(root, self.root, ignore=lambda _, names: SKIPPED & set(names))
        shutil.copytree(book, self.book)

    def replace(self, path: Path, old: str, new: str) -> str:
        """Replaces a text in a file, and returns what the file was."""
        before = path.read_text()
        if old not in before:
            raise ValueError(f"{path.name} does not contain {old!r}")
        path.write_text(before.replace(old, new, 1))
        return before

    def add_far_pages(self) -> None:
        for path, text in FAR.items():
            (self.root / path).write_text(text)
        self.replace(self.root / "docs/limits.md", "\n## ", "\n[middle](middle.md)\n\n## ")

    def remove_far_pages(self, limits: str) -> None:
        for path in FAR:
            (self.root / path).unlink()
        (self.root / "docs/limits.md").write_text(limits)


def build(mdbook: Path, root: Path) -> bool:
    """Builds the book. Tells whether it was built without a warning, as `run` does."""
    done = subprocess.run([mdbook, "build", root], capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    return done.returncode == 0 and not [line for line in said if not line.startswith(" INFO ")]


def main() -> None:
    root, book, mdbook, otpd = (Path(argument).resolve() for argument in sys.argv[1:])
    found, missed = 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder), root, book)
        if faults := check(copy.root, copy.book).faults:
            sys.exit(f"the copy has faults: {faults}")
        for place, rows in ((copy.root, DOCUMENTS), (copy.book, BOOK)):
            for path, old, new, message in rows:
                limits = (copy.root / "docs/limits.md").read_text()
                is_far = any(page in new for page in FAR)
                if is_far:
                    copy.add_far_pages()
                before = copy.replace(place / path, old, new)
                if any(message in fault for fault in check(copy.root, copy.book).faults):
                    found += 1
                else:
                    missed.append(f"{path}: {old!r} -> {new!r}: no {message!r}")
                (place / path).write_text(before)
                if is_far:
                    copy.remove_far_pages(limits)
        (copy.root / PICTURE).write_bytes(bytes(150_001))
        if any(fault.startswith(PICTURE) for fault in check(copy.root, copy.book).faults):
            found += 1
        else:
            missed.append(f"{PICTURE}: too large")
        (copy.root / PICTURE).unlink()
        for path, old, new in BUILD:
            before = copy.replace(copy.root / path, old, new)
            if build(mdbook, copy.root):
                missed.append(f"{path}: {old!r} -> {new!r}: the book is built")
            else:
                found += 1
            (copy.root / path).write_text(before)
        for path, old, new in BLOCKS:
            before = copy.replace(copy.root / path, old, new)
            commands = copy.root / "tests/book/commands"
            listed = commands.read_text()
            renew_ids(copy.root, commands)
            runner = [sys.executable, copy.root / "tests/book/blocks.py", otpd]
            done = subprocess.run(runner, capture_output=True, text=True)
            if done.returncode and f"FAILED  {path}" in done.stdout:
                found += 1
            else:
                missed.append(f"{path}: {old!r} -> {new!r}: {done.stdout}{done.stderr}")
            (copy.root / path).write_text(before)
            commands.write_text(listed)
    for fault in missed:
        print(f"FAILED  not found: {fault}")
    print(f"mutations: {found} ok, {len(missed)} faults")
    sys.exit(bool(missed))


def renew_ids(root: Path, commands: Path) -> None:
    """Lists the blocks as they are now: a block whose text has changed keeps its status."""
    lines = commands.read_text().splitlines()
    for page, block in shell_blocks(root):
        begin = first_line(block)
        for number, line in enumerate(lines):
            cells = line.split(" | ")
            if cells[0] == page and cells[2:3] == [begin]:
                lines[number] = f"{page} | {block.id} | {begin} | {cells[3]}"
    commands.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
