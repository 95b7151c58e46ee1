"""A preprocessor of mdBook for links that lead out of docs/.

The documents of the repository's root become chapters of the book, and links to them lead there. A
book has no other file of the repository: a link to one becomes its text and its path.
"""

import json
import posixpath
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from markdown import FENCE, LINK

#: Chapters that are added, with their names and the chapter that each follows.
ROOT = {
    "SECURITY.md": ("Security, threat by threat", "Security"),
    "CHANGELOG.md": ("Changelog", "Releases"),
    "CONTRIBUTING.md": ("Contributing", "Decisions"),
    "ARCHITECTURE.md": ("Architecture", "Contributing"),
}
#: The folder of these chapters.
FOLDER = "repository"
#: What the book has in place of the README.
BEGINNING = "getting-started.md"


def chapter_of(path: str) -> str | None:
    """Returns the path in the book of a file of the repository."""
    if path == "README.md":
        return BEGINNING
    if path in ROOT:
        return f"{FOLDER}/{path}"
    return posixpath.relpath(path, "docs") if path.startswith("docs/") else None


def rewrite(text: str, source: str) -> str:
    """Rewrites the links of a document of the repository for its place in the book."""
    here = posixpath.dirname(source)
    folder = posixpath.dirname(chapter_of(source))

    def replace(found) -> str:
        target, _, anchor = found[3].partition("#")
        if not target or ":" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(here, target))
        chapter = chapter_of(path)
        if chapter is None:
            shown = found[2].strip("`")
            return f"`{path}`" if shown == path else f"{found[2]} (`{path}`)"
        if path == "README.md":
            anchor = ""
        link = posixpath.relpath(chapter, folder or ".")
        return f"{found[1]}[{found[2]}]({link}{'#' + anchor if anchor else ''})"

    # Code is left as it is.
    parts, fence = [[False, []]], ""
    for line in text.split("\n"):
        found = FENCE.match(line)
        opens = not fence and found
        if opens:
            fence = found[2]
            parts.append([True, []])
        parts[-1][1].append(line)
        if fence and not opens and found and found[2].startswith(fence) and not found[3]:
            fence = ""
            parts.append([False, []])
    pieces = ("\n".join(lines) for _, lines in parts)
    return "\n".join(
        piece if code else LINK.sub(replace, piece)
        for (code, _), piece in zip(parts, pieces, strict=True)
    )


def walk(items: list) -> None:
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            chapter = item["Chapter"]
            if chapter["path"]:
                chapter["content"] = rewrite(chapter["content"], f"docs/{chapter['path']}")
            walk(chapter["sub_items"])


def main() -> None:
    if sys.argv[1:2] == ["supports"]:
        sys.exit(sys.argv[2] != "html")
    context, book = json.load(sys.stdin)
    walk(book["items"])
    items = book["items"]
    for name, (title, before) in ROOT.items():
        text = (Path(context["root"]) / name).read_text()
        chapter = {
            "name": title,
            "content": rewrite(text, name),
            "number": None,
            "sub_items": [],
            "path": f"{FOLDER}/{name}",
            "source_path": None,
            "parent_names": [],
        }
        names = [isinstance(item, dict) and item.get("Chapter", {}).get("name") for item in items]
        items.insert(names.index(before) + 1, {"Chapter": chapter})
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
