"""The card of a published dataset: its README.md as a Hub shows it, with front matter in YAML."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.wording import printable
from weighbridge.faces.scan.publishing import (
    ANSWERS,
    ANSWERS_FILE,
    KEYS,
    KEYS_FILE,
    LIST,
    MODELS,
    MODELS_FILE,
    NAMES_FILE,
    SCHEMA,
    SMALLEST,
)
from weighbridge.faces.scan.publishing import NAMES as WORDS
from weighbridge.memory.report.columns import FlatColumn

TITLE = "Which models fit which card"
TAGS = ("gpu-memory", "vram", "weighbridge")
STEPS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")  # as on the Hub
SIGNS = re.compile(r"[<>&\[\]()*`|\\]|:(?=//)")  # characters that Markdown interprets
FILES = {"models": MODELS_FILE, "keys": KEYS_FILE, "answers": ANSWERS_FILE}
NUMBERS = """\
`need` is the memory of the fullest card that we expect, in bytes, as nvidia-smi shows it;
`need_low` and `need_high` are bounds that we would be surprised to see passed. `fits` is `yes`
where `need_high` is within what a process can have (`usable` bytes of each card), `no` where
`need_low` is not, and `unknown` where the bounds reach over it or something is not counted. The
numbers are computed from each model's config, by the rules of the engine's release that stands
beside them. They are not measured: `basis` says what most of the bytes rest on.
"""
COMMANDS = """
```sh
pip install 'weighbridge[scan]'
weighbridge scan plan MODELS ./weighed --questions QUESTIONS.yaml
weighbridge scan run ./weighed
weighbridge scan publish ./weighed ./registry
```
"""
LIMITS = """\
- A config says shapes, and not what files hold: where weights are stored otherwise than their
  config says, the answer is about the config.
- Each question has one context, batch and precision. A model that does not fit may fit with others.
- Nothing is said of speed or quality, of code that a repository brings along, or of what else runs
  on the card.
- No text of a config is in here, and no weights: ids, revisions, and numbers that were computed.
  Models have licences of their own.
"""


def card(about: Mapping[str, Any], *, title: str = TITLE, licence: str | None = None) -> str:
    """Return the card of a dataset as Markdown; `about` is the content of its registry.json."""
    blocks = (
        front(about, title, licence),
        f"# {_escaped(title)}\n",
        _summary_text(about),
        f"## How it was made\n\n{_making_text(about)}",
        f"## What the numbers are\n\n{NUMBERS}",
        f"## Questions\n\n{_questions_table(about['questions'])}",
        f"## Columns\n\n{_columns_tables(about['files'])}",
        f"## What it does not say\n\n{LIMITS}",
    )
    return "\n".join(blocks)


def front(about: Mapping[str, Any], title: str, licence: str | None) -> str:
    """Return the front matter of the card; its values are JSON, which is YAML as well."""
    rows = sum(one["rows"] for one in about["questions"])
    size = next((n for n, step in zip(NAMES, STEPS, strict=True) if rows < step), NAMES[-1])
    lines = [
        *([f"license: {json.dumps(licence)}"] if licence else []),
        f"pretty_name: {json.dumps(title)}",
        f"tags: {json.dumps(TAGS)}",
        f"size_categories: {json.dumps([size])}",
        "configs:",
        *(f"- {{config_name: {name}, data_files: {file}}}" for name, file in FILES.items()),
    ]
    return "\n".join(("---", *lines, "---", ""))


def _summary_text(about: Mapping[str, Any]) -> str:
    counts, questions = about["counts"], about["questions"]
    rows = sum(one["rows"] for one in questions)
    return (
        f"{counts['models']:,} models of {_escaped(about['source'])}, each asked {len(questions)} "
        f"questions: {rows:,} answers about the {counts['keys']:,} configs that memory can tell "
        f"apart. Configs that were not read: {counts['unread']:,}.\n"
    )


def _making_text(about: Mapping[str, Any]) -> str:
    return (
        f"By `weighbridge scan`, release {about['weighbridge']}, from each model's config alone, "
        f"and written by `weighbridge scan publish` (`{SCHEMA}`). The same models, questions and "
        f"release give the same bytes; `{LIST}` has the questions, and the size and SHA-256 of "
        f"each file.\n{COMMANDS}"
    )


def _questions_table(asked: Sequence[Mapping[str, Any]]) -> str:
    rows = (_question_cells(one) for one in asked)
    return _table(("question", "asked", "yes", "no", "unknown", "no answer"), rows)


def _question_cells(one: Mapping[str, Any]) -> Iterator[str]:
    settings = {name: value for name, value in one["settings"].items() if name != "gpu"}
    settings_text = ", ".join(f"{name} {value}" for name, value in settings.items())
    yield f"`{printable(one['name']).replace('`', '')}`"
    yield _escaped(f"{one['task']}, {settings_text}" if settings_text else one["task"])
    for verdict in ("yes", "no", "unknown", "refused"):
        yield f"{one['verdicts'].get(verdict, 0):,}"


def _escaped(text: str) -> str:
    """Return a stranger's text escaped for Markdown: no tag, no link, no address."""
    return SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", printable(text))


def _columns_tables(files: Mapping[str, Any]) -> str:
    smallest = FlatColumn(f"{SMALLEST}...", "text", "the smallest card that fits, for a question")
    tables = {
        MODELS_FILE: MODELS,
        KEYS_FILE: (*KEYS, smallest),
        ANSWERS_FILE: ANSWERS,
        **({NAMES_FILE: WORDS} if NAMES_FILE in files else {}),
    }
    return "\n".join(
        _table((f"`{file}`", "holds"), ((f"`{c.name}`", c.meaning) for c in columns))
        for file, columns in tables.items()
    )


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
