"""Which changes of answers the files of changes/ explain, so that they are not red.

A file of changes/ may have lines such as

    <!-- answers: train zero3* | activations, temporaries -->
    <!-- answers: infer vllm* | kv_cache | qwen3* | 0.5 % -->

A line names a question, the components that change ("*" for any; "refused" for an answer that is
now a refusal, or was one), the models ("*" unless given) and by how much the peak may move at most
(5 % unless given). The first three are patterns as a shell has them. A line counts until the
record of answers is written again (`make records-all`).
"""

import re
import subprocess
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"^<!-- answers: (.+?) -->$", re.M)
PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")


class Change(NamedTuple):
    """A changed answer: which components differ, and how far the peak moved as a fraction."""

    model: str
    question: str
    components: Sequence[str]
    moved: float


class Explanation(NamedTuple):
    """The changes that one line explains: patterns, and the most that a peak may move."""

    question: str
    components: tuple[str, ...]
    model: str
    most: float

    def covers(self, model: str, question: str, components: Iterable[str], moved: float) -> bool:
        """Return whether the line explains a change, all its components among them."""
        return (
            moved <= self.most
            and fnmatch(question, self.question)
            and fnmatch(model, self.model)
            and all(any(fnmatch(name, one) for one in self.components) for name in components)
        )


def explanations(texts: Iterable[str]) -> list[Explanation]:
    """Return what the lines of change files explain. Raises ValueError for a malformed line."""
    return [_parse(line) for text in texts for line in LINE.findall(text)]


def _parse(line: str) -> Explanation:
    fields = [field.strip() for field in line.split("|")]
    question, components, model, most = (fields + ["*", "5 %"][len(fields) - 2 :] + [""] * 4)[:4]
    percent = PERCENT.fullmatch(most)
    if not 2 <= len(fields) <= 4 or not percent:
        raise ValueError(f"answers: {line}: expected question | components | models | 5 %")
    names = tuple(name.strip() for name in components.split(","))
    return Explanation(question, names, model, float(percent[1]) / 100)


def _newer_change_files(record: Path) -> list[Path]:
    """Return the change files changed since the record was committed, all if it never was."""
    every = sorted((ROOT / "changes").glob("*.md"))

    def git(*words: str) -> list[str]:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()

    (written,) = git("log", "-1", "--format=%H", "--", str(record)) or [""]
    if not written:
        return every
    new = {*git("diff", "--name-only", written, "--", "changes")}
    new |= {*git("ls-files", "--others", "--exclude-standard", "--", "changes")}
    return [path for path in every if str(path.relative_to(ROOT)) in new]


def unexplained(changes: Sequence[Change], record: Path) -> list[int]:
    """Return the indexes of the changes that no file newer than the record explains."""
    texts = (path.read_text(encoding="utf-8") for path in _newer_change_files(record))
    known = explanations(texts) if changes else []
    return [i for i, one in enumerate(changes) if not any(line.covers(*one) for line in known)]
