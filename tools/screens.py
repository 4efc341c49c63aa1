"""Screens within the docs, as the program prints them: blocks that begin with `$ weighbridge ...`
and go on with what it prints.

    python -m tools.screens                       writes them anew
    python -m tools.screens --check               says which pages are out of date, and exits with 1
    python -m tools.screens --without fit train   leaves the screens of these commands as they are
"""

import argparse
import contextlib
import io
import os
import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIRST = ("index", "first-steps", "load", "infer", "train", "fit")  # there in Chinese, too
PAGES = (
    "README.md",
    "README.zh.md",
    "docs/screens.md",
    *(f"docs/{name}.md" for name in FIRST),
    *(f"docs/zh/{name}.md" for name in FIRST),
)
BLOCK = re.compile(r"^```\n\$ weighbridge (?P<command>[^\n]+)\n\n?(?P<shown>.+?)^```$", re.M | re.S)


@cache
def printed(command: str) -> str:
    """What one command prints in a pipe of 80 columns."""
    from weighbridge.faces.cli.menu import run

    os.environ.update(COLUMNS="80", LANG="C.UTF-8", NO_COLOR="1")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        run(shlex.split(command))
    return out.getvalue()


def renewed(page: str, without: Sequence[str] = ()) -> str:
    """The page with every screen as it is printed now, but those of some commands."""

    def block(found: re.Match[str]) -> str:
        command = found["command"]
        if command.split(" ")[0] in without:
            return found[0]
        return f"```\n$ weighbridge {command}\n\n{printed(command).rstrip()}\n```"

    return BLOCK.sub(block, page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--without", nargs="+", default=(), metavar="COMMAND")
    asked = parser.parse_args()
    check = asked.check
    stale = []
    for name in PAGES:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = renewed(before, asked.without)
        if after != before:
            stale.append(name)
            if not check:
                path.write_text(after, encoding="utf-8")
    if stale:
        print(f"screens: {'out of date' if check else 'wrote'}: {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
