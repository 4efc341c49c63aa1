"""Which tests a change can break: the gate (`.ci/run`) runs those, and a share of all others.

    python -m tools.near                  print the test files and folders near the change
    python -m tools.near --why            the same, each with up to three files that it is near to
    python -m tools.near --step page      print yes if the change concerns that step, else no

The change is what differs from the commit in .ci/base, uncommitted files included. `make begin`
writes that file. Every test is near if that commit is not in the history, or if the change
concerns what all tests rest on (EVERYTHING).

A test file is near a module of src/ if it lies in the test folder of the module's room, or imports
the module. It is near a helper of tests/ that it imports, and a data file of its folder. If more
than MANY test files import a module, none of them is near it: the share has to do. Sentences are
near the tests of what shows them (SHOWN), a program near those that start it (STARTED).
"""

import argparse
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tools import mutants
from tools.records import QUICK, SLOW
from tools.syntax import imports

from weighbridge.faces.web import archive

ROOT = Path(__file__).parent.parent
BASE = ROOT / ".ci" / "base"
EVERYTHING = (".ci/run", ".ci/venv", "pyproject.toml", "tests/conftest.py", "tools/near.py")
FOUNDATIONS = ("base/", "settings/")  # rooms under every other one: no test folder is near them
MANY = 40  # test files
WORDS = Path("src/weighbridge/base/words")
SHOWN: Mapping[str, tuple[str, ...]] = {  # catalogue of WORDS -> tests of what shows its sentences
    "charts": ("tests/charts",),
    "errors": ("tests/cli", "tests/contract", "tests/words"),
    "oom": ("tests/oom",),
    "page": ("tests/space", "tests/web"),
    "screens": ("tests/charts", "tests/view"),  # a chart says what a screen says
    "settings": ("tests/cli", "tests/settings", "tests/web"),
    "warnings": ("tests/cli", "tests/view", "tests/words"),
}
STARTED: Mapping[str, str] = {  # a room that tests start as a program -> the module that starts it
    "weighbridge_lab/trace/": "tests.torch.test_trace_cli",
}
STEPS: Mapping[str, tuple[str, ...]] = {  # step -> how the paths begin that it tests or shows
    "page": (
        "src/weighbridge/base/words/page",
        "src/weighbridge/faces/view",
        "src/weighbridge/faces/web",
        *(f"src/weighbridge/{place}" for place in archive.LATER),
        "tests/browser",
        "tests/web",
    ),
    "agents": (
        "docs/",
        "extensions",
        "mkdocs",
        "skills",
        "src/weighbridge/faces/agents",
        "src/weighbridge/faces/scan",
        "src/weighbridge/files/scan",
        "tests/agents",
        "tests/scan",
        "tests/test_site.py",
        "tools/site",
    ),
}
BLOCKS = ("screens", "house")  # records that write blocks in pages that people write
GENERATED = tuple(
    file
    for record in (*QUICK, *SLOW)
    if record.name not in BLOCKS
    for file in record.files
    if file.startswith("docs/")
)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def changed_paths() -> list[str] | None:
    """Return the paths that differ from the base, None if every test is near."""
    base = BASE.read_text().strip() if BASE.exists() else ""
    if not base or not _git("cat-file", "-t", base):
        return None
    committed = _git("diff", "--name-only", "--no-renames", base).splitlines()
    untracked = _git("ls-files", "--others", "--exclude-standard").splitlines()
    paths = sorted({*committed, *untracked})
    return None if any(path.startswith(EVERYTHING) for path in paths) else paths


@cache
def _importers() -> Mapping[str, frozenset[str]]:
    """Return the files of tests/ that import each module: dotted name -> paths."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for module in _imported_modules(path.read_text(encoding="utf-8")):
            found[module].add(str(path.relative_to(ROOT)))
    return {module: frozenset(paths) for module, paths in found.items()}


def _imported_modules(text: str) -> Iterator[str]:
    """Yield the dotted names that a module imports; names of its functions are among them."""
    for module, name in imports(text):
        if not name or module != "weighbridge":
            yield module
            yield f"{module}.{name}".rstrip(".")


def concerns(step: str, path: str) -> bool:
    """Return whether a step tests or shows a file; pages that are generated concern none."""
    return path.startswith(STEPS[step]) and not path.startswith(GENERATED)


def tests_near(path: str) -> set[str]:
    """Return the test files and folders near one changed path."""
    file = Path(path)

    def tests_that_import(module: str) -> set[str]:
        found = _importers().get(module, frozenset())
        return set(found) if len(found) <= MANY else set()

    if path.startswith("tests/") and file.suffix == ".py":
        is_test = file.name.startswith("test_") and (ROOT / path).exists()
        module = ".".join(file.with_suffix("").parts)
        return ({path} if is_test else set()) | tests_that_import(module)
    if path.startswith("tests/"):
        room = Path(*file.parts[:2])
        return {str(room)} if (ROOT / room).is_dir() else set()
    if path.startswith("tools/") and file.suffix == ".py":
        return tests_that_import(".".join(file.with_suffix("").parts))
    if not path.startswith("src/"):
        return set()
    if file.parent == WORDS and file.suffix == ".json":
        return set(SHOWN[file.stem])
    inner = file.relative_to("src")
    found = tests_that_import(".".join(inner.with_suffix("").parts).removesuffix(".__init__"))
    for room, module in STARTED.items():
        if str(inner).startswith(room):
            found |= {f"{module.replace('.', '/')}.py", *tests_that_import(module)}
    if not str(inner).removeprefix("weighbridge/").startswith(FOUNDATIONS):
        folders = mutants.near(mutants.Mutant(str(inner), 0, 0, "", ""))
        found |= {folder for folder in folders if (ROOT / folder).exists()}
    return found


def tests_by_reason(paths: Iterable[str]) -> dict[str, set[str]]:
    """Return the tests near any of the changed paths: test file or folder -> those paths."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        for test in tests_near(path):
            found[test].add(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--why", action="store_true")
    options = parser.parse_args()
    paths = changed_paths()
    if options.step:
        touched = paths is None or any(concerns(options.step, path) for path in paths)
        print("yes" if touched else "no")
    elif paths is None:
        print("tests")  # the folder of all tests
    else:
        for test, reasons in sorted(tests_by_reason(paths).items()):
            print(test, *(sorted(reasons)[:3] if options.why else ()))


if __name__ == "__main__":
    main()
