"""Make a release of what is here: one command, then a push.

python -m tools.release 0.3.0     changes/ into CHANGELOG.md, the version wherever it stands,
                                  a commit and a tag; the pushed tag is published (release.yml)
"""

import argparse
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION = Path("src/weighbridge/base/_version.py")
# Where the version stands: the file, and what comes before it
PLACES = (
    (VERSION, '__version__ = "'),
    (Path("action.yml"), "default: weighbridge=="),
    (Path("extensions/hf-weighbridge/pyproject.toml"), 'version = "'),
    (Path("extensions/hf-weighbridge/pyproject.toml"), 'dependencies = ["weighbridge>='),
)
FORM = r"\d+\.\d+\.\d+"


def released(root: Path, version: str) -> list[str]:
    """Write a version into each of its places, or nothing, and return what prevents it."""
    if not re.fullmatch(FORM, version):
        return [f"{version!r} is no version: three numbers, as 0.3.0"]
    now = current(root)
    if _numbers(version) <= _numbers(now):
        return [f"{version} is not after {now}"]
    texts = {path: (root / path).read_text(encoding="utf-8") for path, _ in PLACES}
    for path, before in PLACES:
        line = rf"^( *{re.escape(before)}){FORM}"
        texts[path], count = re.subn(line, rf"\g<1>{version}", texts[path], flags=re.M)
        if count != 1:
            return [f"{path} has {count} lines that begin with {before!r}: one is needed"]
    for path, text in texts.items():
        (root / path).write_text(text, encoding="utf-8")
    return []


def current(root: Path) -> str:
    """Return the version that the sources have."""
    match = re.search(FORM, (root / VERSION).read_text(encoding="utf-8"))
    assert match is not None
    return match[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("version")
    version = parser.parse_args().version
    if _git("status", "--porcelain"):
        print("there are changes that are not committed")
        return 1
    if faults := released(ROOT, version):
        print(*faults, sep="\n")
        return 1
    subprocess.run(["towncrier", "build", "--yes", "--version", version], cwd=ROOT, check=True)
    _git("add", "--all")
    _git("commit", "--message", f"weighbridge {version}")
    _git("tag", "--annotate", f"v{version}", "--message", f"weighbridge {version}")
    print(f"now: git push origin main v{version}")
    return 0


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    raise SystemExit(main())
