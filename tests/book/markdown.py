"""Links, headings and code blocks of a Markdown document, as GitHub shows it."""

import hashlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^( *)(`{3,}|~{3,}) *([^`\n]*)$")
# A text may contain brackets that are in balance, and a target no parentheses.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(\s*<?([^()\s<>]+)>?\s*\)")
AUTOLINK = re.compile(r"<([a-z][a-z0-9+.-]*:[^<>\s]*)>", re.IGNORECASE)
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
CODE = re.compile(r"(`+)(?:.|\n)*?[^`]\1(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    language: str
    text: str
    line: int

    @property
    def id(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:10]


def split(text: str) -> tuple[str, list[Block]]:
    """Returns the text with each line of code made empty, and the code blocks."""
    prose: list[str] = []
    blocks: list[Block] = []
    fence, language, code, begin = "", "", [], 0
    for number, line in enumerate(text.split("\n"), 1):
        found = FENCE.match(line)
        if not fence and found:
            fence, language, code, begin = found[2], found[3].strip(), [], number
        elif fence and found and found[2].startswith(fence) and not found[3]:
            blocks.append(Block(language, textwrap.dedent("\n".join(code)) + "\n", begin))
            fence = ""
        elif fence:
            code.append(line)
        else:
            prose.append(line)
            continue
        prose.append("")
    if fence:
        raise ValueError(f"line {begin}: the code block has no end")
    return "\n".join(prose), blocks


def without_code(prose: str) -> str:
    """Returns the prose with the content of code spans made empty; lines stay lines."""
    return CODE.sub(lambda span: "`" + "\n" * span[0].count("\n") + "`", prose)


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the target of each link and image."""
    prose = without_code(split(text)[0])
    for pattern, group in ((LINK, 3), (AUTOLINK, 1), (DEFINITION, 1)):
        for found in pattern.finditer(prose):
            yield prose.count("\n", 0, found.start()) + 1, found[group]


def anchors(text: str) -> set[str]:
    """Returns the anchors of the headings."""
    found: dict[str, int] = {}
    for line in split(text)[0].split("\n"):
        heading = re.match(r"#{1,6} +(.*?) *#*$", line)
        if not heading:
            continue
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        times = found.get(slug, 0)
        found[slug] = times + 1
        if times:
            found[f"{slug}-{times}"] = 1
    return set(found)
