#!/usr/bin/env python3
"""Checks the relative links of the Markdown files: the file exists, and so does the heading that an
anchor names. Prints `file:line: why` for each broken link; exits 1 when there is one.
"""

import functools
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r'!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|(?:src|href)="([^"]+)"')
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")


def prose_lines(path):
    """(number, line) of a Markdown file outside its code blocks, without inline code."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


@functools.cache
def anchors(path):
    """The anchors that a Markdown file's headings make, by GitHub's rule."""
    seen, found = {}, set()
    for _, line in prose_lines(path):
        if match := HEADING.match(line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(f"{slug}-{count}" if count else slug)
    return found


def broken(path, target):
    """Why a link in `path` leads nowhere, or None."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    name = urllib.parse.unquote(parts.path)
    there = path if not name else (ROOT / name[1:] if name.startswith("/") else path.parent / name)
    there = there.resolve()
    if not there.is_relative_to(ROOT) or not there.exists():
        return f"{target}: no such file"
    if parts.fragment and there.suffix == ".md" and parts.fragment not in anchors(there):
        return f"{target}: no such heading"
    return None


def main():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    files = [ROOT / name for name in listed if (ROOT / name).exists()]
    faults, links = [], 0
    for path in files:
        for number, line in prose_lines(path):
            for match in LINK.finditer(re.sub(r"`[^`]*`", "", line)):
                links += 1
                if why := broken(path, match[1] or match[2]):
                    faults.append(f"{path.relative_to(ROOT)}:{number}: {why}")
    print("\n".join(faults) or f"{links} links in {len(files)} documents lead somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
