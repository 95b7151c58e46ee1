"""Checks the documents of a repository, and the book that was built of them.

usage: check.py ROOT BOOK

- Each relative link leads to a file and an anchor that exist, in every Markdown document and on
  every page of the book. Of external links only the syntax is checked; nothing is fetched.
- Each page in docs/ is in docs/SUMMARY.md, once.
- Each block of shell commands in README.md and docs/ is in `commands`, with the test that runs it
  or why none does. Each setting that such a block sets exists.
- The answer to each of `questions` is at most two clicks from README.md.
- README.md has at most 120 lines, and the two commands that CI and newcomers read.
- Each picture in docs/images has at most 150 kB.

Prints each fault, and a summary.
"""

import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import markdown

README_LINES = 120
README_COMMANDS = ["cargo run --release -- dev\n", "tests/run\n"]
CLICKS = 2
PICTURE_BYTES = 150_000
#: Folders that have no documents of ours.
SKIPPED = {".git", "target", "node_modules", "corpus", "artifacts"}
#: Pages of the book that are served for paths of any depth.
ANY_DEPTH = {"404.html"}


class Checks:
    """Counts what was checked, and collects the faults."""

    def __init__(self) -> None:
        self.passed = 0
        self.faults: list[str] = []

    def check(self, holds: bool, fault: str) -> None:
        if holds:
            self.passed += 1
        else:
            self.faults.append(fault)


def documents(root: Path) -> list[str]:
    """Returns the paths of all Markdown documents."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)
        paths = (Path(folder, name).relative_to(root) for name in files if name.endswith(".md"))
        found += [path.as_posix() for path in paths]
    return sorted(found)


def is_valid_url(target: str) -> bool:
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "mailto":
        return "@" in parts.path
    host = parts.hostname or ""
    is_host = re.fullmatch(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9-]+", host)
    return parts.scheme in {"http", "https"} and bool(is_host) and port != 0


def resolve(source: str, target: str) -> str | None:
    """Returns the path that a relative link leads to, or nothing if that is outside the root."""
    path = os.path.normpath(os.path.join(os.path.dirname(source), unquote(target)))
    return None if path.startswith(("..", "/")) else path


def exists(root: Path, path: str) -> bool:
    """Tells whether a path exists, spelled exactly like this."""
    place = root
    for part in Path(path).parts:
        if not place.is_dir() or part not in os.listdir(place):
            return False
        place /= part
    return True


@cache
def anchors_of(path: Path) -> set[str]:
    return markdown.anchors(path.read_text())


def check_links(checks: Checks, root: Path) -> dict[str, set[str]]:
    """Checks the links of all documents. Returns which documents each of them links."""
    graph: dict[str, set[str]] = {}
    for source in documents(root):
        reached = graph.setdefault(source, set())
        for line, target in markdown.links((root / source).read_text()):
            where = f"{source}:{line}: {target}"
            if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
                checks.check(is_valid_url(target), f"{where}: the URL is malformed")
                continue
            path, _, anchor = target.partition("#")
            path = resolve(source, path) if path else source
            if path is None or not exists(root, path):
                checks.check(False, f"{where}: there is no such file")
                continue
            if path.endswith(".md"):
                reached.add(path)
                known = not anchor or anchor in anchors_of(root / path)
                checks.check(known, f"{where}: there is no such heading")
            else:
                checks.check(not anchor, f"{where}: an anchor of a file that is no document")
    return graph


def check_summary(checks: Checks, root: Path) -> None:
    listed = [target for _, target in markdown.links((root / "docs/SUMMARY.md").read_text())]
    pages = {path.removeprefix("docs/") for path in documents(root) if path.startswith("docs/")}
    for page in sorted(pages - {"SUMMARY.md"}):
        times = listed.count(page)
        checks.check(times == 1, f"docs/{page} is {times} times in docs/SUMMARY.md, not once")


def shell_blocks(root: Path) -> Iterator[tuple[str, markdown.Block]]:
    """Yields the blocks of shell commands in README.md and docs/, with their documents."""
    for source in documents(root):
        if source == "README.md" or source.startswith("docs/"):
            for block in markdown.split((root / source).read_text())[1]:
                if block.language in {"sh", "bash", "shell", "console"}:
                    yield source, block


def read_table(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each row; cells are separated by a vertical bar."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) != columns:
                raise ValueError(f"{path}:{number}: {len(cells)} cells, not {columns}")
            yield number, cells


def first_line(block: markdown.Block) -> str:
    """Returns the beginning of a block, as `commands` shows it to its readers."""
    return block.text.split("\n")[0].replace("|", "/")[:50].rstrip()


def check_commands(checks: Checks, root: Path, here: Path) -> None:
    listed: dict[tuple[str, str], tuple[int, str, str]] = {}
    for number, (page, id, begin, status) in read_table(here / "commands", 4):
        checks.check((page, id) not in listed, f"commands:{number}: {page} {id} is listed twice")
        listed[page, id] = number, begin, status
        runner = re.fullmatch(r"run by (tests/\S+)", status)
        reason = re.fullmatch(r"not run: .{8,}", status)
        checks.check(bool(runner or reason), f"commands:{number}: {status!r} is no status")
        if runner:
            path = root / runner[1]
            names_page = path.is_file() and page in path.read_text()
            # A runner of all blocks that are listed for it reads the list instead.
            reads_list = path == root / "tests/book/blocks.py"
            checks.check(
                path.is_file() and (names_page or reads_list),
                f"commands:{number}: {runner[1]} does not name {page}",
            )
    for page, block in shell_blocks(root):
        row = listed.pop((page, block.id), None)
        line = f"{page} | {block.id} | {first_line(block)} | "
        checks.check(row is not None, f"{page}:{block.line}: not in tests/book/commands: {line}")
        if row:
            shown = row[1] == first_line(block)
            checks.check(shown, f"commands:{row[0]}: the block begins with {first_line(block)!r}")
    for (page, id), (number, _, _) in listed.items():
        checks.check(False, f"commands:{number}: {page} has no block {id}")


def check_names(checks: Checks, root: Path) -> None:
    """Checks that the settings in blocks of shell commands exist."""
    known = set(re.findall(r"^### `(\w+)`", (root / "docs/settings.md").read_text(), re.MULTILINE))
    for page, block in shell_blocks(root):
        for name in re.findall(r"^(?:OTP|EMAIL|SMTP|REDIS)_\w+(?==)", block.text, re.MULTILINE):
            holds = bool({name, name.removesuffix("_FILE")} & known)
            checks.check(holds, f"{page}:{block.line}: {name} is not a setting")


def clicks(graph: dict[str, set[str]], begin: str) -> dict[str, int]:
    """Returns how many links away each document is."""
    found, queue = {begin: 0}, deque([begin])
    while queue:
        page = queue.popleft()
        for target in sorted(graph.get(page, set()) - found.keys()):
            found[target] = found[page] + 1
            queue.append(target)
    return found


def check_questions(checks: Checks, root: Path, here: Path, graph: dict[str, set[str]]) -> None:
    distance = clicks(graph, "README.md")
    questions = list(read_table(here / "questions", 2))
    checks.check(len(questions) >= 20, f"questions: only {len(questions)}")
    for number, (question, answer) in questions:
        where = f"questions:{number}: {question}"
        page, _, anchor = answer.partition("#")
        if not exists(root, page):
            checks.check(False, f"{where}: there is no {page}")
            continue
        known = bool(anchor) and anchor in anchors_of(root / page)
        checks.check(known, f"{where}: {page} has no heading #{anchor}")
        away = distance.get(page)
        near = away is not None and away <= CLICKS
        checks.check(near, f"{where}: {page} is {away} clicks from README.md")


def check_readme(checks: Checks, root: Path) -> None:
    text = (root / "README.md").read_text()
    lines = len(text.splitlines())
    checks.check(lines <= README_LINES, f"README.md has {lines} lines, more than {README_LINES}")
    blocks = [block.text for block in markdown.split(text)[1]]
    for command in README_COMMANDS:
        checks.check(command in blocks, f"README.md has no block {command!r}")


def check_pictures(checks: Checks, root: Path) -> None:
    for picture in sorted((root / "docs/images").iterdir()):
        size = picture.stat().st_size
        checks.check(size <= PICTURE_BYTES, f"docs/images/{picture.name} has {size} bytes")


class Page(HTMLParser):
    """The ids of a page, its links, and what a browser loads for it."""

    LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("source", "src")}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.ids.add(value)
            if name in {"href", "src"} and value is not None:
                self.links.append((value, (tag, name) in self.LOADED))


def check_book(checks: Checks, book: Path, root: Path) -> None:
    pages = {
        path.relative_to(book).as_posix(): Page(path.read_text()) for path in book.rglob("*.html")
    }
    for source, page in pages.items():
        if source in ANY_DEPTH:
            continue
        for target, loaded in page.links:
            where = f"book: {source}: {target}"
            if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
                checks.check(not loaded, f"{where}: the page loads it from elsewhere")
                checks.check(is_valid_url(target), f"{where}: the URL is malformed")
                continue
            path, _, anchor = target.partition("#")
            path = resolve(source, path) if path else source
            if path is None or not exists(book, path):
                checks.check(False, f"{where}: there is no such file")
                continue
            known = not anchor or path not in pages or unquote(anchor) in pages[path].ids
            checks.check(known, f"{where}: there is no such anchor")
    for document in documents(root):
        if document.startswith("docs/") and document != "docs/SUMMARY.md":
            name = document.removeprefix("docs/").removesuffix(".md") + ".html"
            checks.check(name in pages, f"book: {name} is missing")


def check(root: Path, book: Path) -> Checks:
    """Checks everything. The lists are those of the repository that is checked."""
    checks, here = Checks(), root / "tests/book"
    graph = check_links(checks, root)
    check_summary(checks, root)
    check_commands(checks, root, here)
    check_names(checks, root)
    check_questions(checks, root, here, graph)
    check_readme(checks, root)
    check_pictures(checks, root)
    check_book(checks, book, root)
    anchors_of.cache_clear()
    return checks


def main() -> None:
    checks = check(Path(sys.argv[1]), Path(sys.argv[2]))
    for fault in checks.faults:
        print(f"FAILED  {fault}")
    print(f"documents: {checks.passed} ok, {len(checks.faults)} faults")
    sys.exit(bool(checks.faults))


if __name__ == "__main__":
    main()
