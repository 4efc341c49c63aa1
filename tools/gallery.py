"""Draw the charts of docs/gallery.md, each by the command that stands above it.

python -m tools.gallery            draws them
python -m tools.gallery --check    says which are out of date, and exits with 1
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gallery.md"
COMMAND = re.compile(r"^weighbridge (?P<line>.+ --chart (?P<file>gallery/[\w-]+\.svg).*)$", re.M)


def commands() -> dict[str, str]:
    """The command of each picture, by its file."""
    return {m["file"]: m["line"] for m in COMMAND.finditer(PAGE.read_text(encoding="utf-8"))}


def drawn(line: str, file: str) -> str:
    """The picture that one command draws; raises RuntimeError where it draws none."""
    from weighbridge.faces.cli.menu import run

    os.environ.update(COLUMNS="80", LANG="C.UTF-8", NO_COLOR="1")
    talk = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(file).name
        arguments = [str(path) if word == file else word for word in shlex.split(line)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(talk):
            run(arguments)
        if not path.exists():
            raise RuntimeError(f"weighbridge {line} draws nothing: {talk.getvalue()}")
        return path.read_text(encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for file, line in commands().items():
        path, text = PAGE.parent / file, drawn(line, file)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(file)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"gallery: {'out of date' if check else 'drew'}: {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
