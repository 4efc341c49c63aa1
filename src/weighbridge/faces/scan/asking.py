"""The questions of a scan: requests as `weighbridge run` takes them, without a model.

    questions:
      - name: vllm
        task: infer
        workload: {engine: vllm, context: [8192, 32768], gpu: [4090, h100]}

A setting with a list is multiplied out: these are vllm/8192/4090, vllm/8192/h100, ...
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from weighbridge.answers.questions.question import question
from weighbridge.base.errors import UsageError
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.engines.table import engine, usual
from weighbridge.files.runfiles.document import decoded, documents

TASKS = ("load", "infer", "train")
ELSEWHERE = (
    "draft_model",
    "mmproj",
    "command",
    "revision",
)  # settings that name a model or part of one
HERE = "local"  # name of the card of the machine that answers
MOST = 1000  # most questions, since each is asked of each key
MODEL = "model"  # the first question: can the config be read?
DEFAULT = "questions.yaml"  # file name, in the folder of this module


@dataclass(frozen=True, kw_only=True)
class ScanQuestion:
    """One question that each config is asked. `settings` are those of its task, as the file writes
    them; `name` is unique within a plan."""

    name: str
    task: str
    settings: Mapping[str, Any]

    @property
    def family(self) -> str:
        """Return the name of the rules that answer the question: its engine for `infer`, else its
        task."""
        return str(self.settings["engine"]) if self.task == "infer" else self.task

    @property
    def label(self) -> str:
        """Return the question's name without the card; questions that differ only in the card share
        it."""
        return self.name.removesuffix(f"/{self.settings.get('gpu')}")


def default(cards: Sequence[str]) -> tuple[ScanQuestion, ...]:
    """Return the questions that most people ask of each card: loading, serving, LoRA, QLoRA, full
    training."""
    return read(Path(__file__).with_name(DEFAULT).read_bytes(), "the default questions", cards)


def read(raw: bytes, name: str, cards: Sequence[str] = ()) -> tuple[ScanQuestion, ...]:
    """Return the questions of a file in YAML. Those that name no card are about each of `cards`.

    Raises:
        weighbridge.WeighbridgeError: no YAML, or a question that `weighbridge run` would
            not answer about any model.
    """
    first, *_ = documents(decoded(raw, name), "yaml", name) or (None,)
    listed = first.data.get("questions") if first and isinstance(first.data, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UsageError(sentence("scan.no_list"), where=name)
    questions = [
        q
        for number, one in enumerate(listed, 1)
        for q in _read_entry(one, f"{name}, question {number}", cards)
    ]
    if len(questions) > MOST:
        raise UsageError(sentence("scan.limit", count=len(questions), most=MOST), where=name)
    names = [q.name for q in questions]
    twice = next((n for n in names if names.count(n) > 1 or n == MODEL), None)
    if twice is not None:
        raise UsageError(sentence("scan.name_twice", name=shown(twice)), where=name)
    return tuple(questions)


def _read_entry(entry: Any, where: str, cards: Sequence[str]) -> Iterator[ScanQuestion]:
    if not isinstance(entry, dict) or not entry.keys() <= {"name", "task", "workload"}:
        raise UsageError(sentence("scan.fields", value=shown(entry)), where=where)
    name, task, workload = entry.get("name"), entry.get("task"), entry.get("workload") or {}
    if not isinstance(name, str) or not name:
        raise UsageError(sentence("scan.no_name"), where=where)
    if task not in TASKS:
        raise UsageError(
            sentence("is_one_of", name="task", known=", ".join(TASKS), value=shown(task)),
            where=where,
        )
    if not isinstance(workload, dict):
        raise UsageError(sentence("oom.workload", value=shown(workload)), where=where)
    if cards and "gpu" not in workload and "gpu_memory" not in workload:
        workload = {**workload, "gpu": list(cards)}
    for settings, varied in _combinations(workload):
        asked = ScanQuestion(name="/".join([name, *varied]), task=task, settings=settings)
        yield _checked(asked, where)


def _combinations(workload: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield (settings, chosen values as text) for each combination of values from the settings that
    are lists."""
    lists = {name: value for name, value in workload.items() if isinstance(value, list)}
    for values in product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        yield {**workload, **chosen}, [str(value) for value in values]


def _checked(asked: ScanQuestion, where: str) -> ScanQuestion:
    settings = {n: str(v) if n == "gpu" else v for n, v in asked.settings.items()}
    if asked.task == "infer":
        settings.setdefault("engine", usual().name)
    named = next((n for n in ELSEWHERE if n in settings), None)
    if named is not None:
        raise UsageError(sentence("scan.names_model", name=named), where=where)
    if settings.get("exact"):
        raise UsageError(sentence("scan.exact"), where=where)
    if str(settings.get("gpu")).partition(":")[0] == HERE:
        raise UsageError(sentence("scan.local"), where=where)
    try:
        meant = question(asked.task, None, settings).workload
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if asked.task == "infer":
        settings["engine"] = engine(meant.engine).name
    return replace(asked, settings=settings)


def families(questions: Iterable[ScanQuestion]) -> tuple[str, ...]:
    """Return the families of some questions, each once; the family of reading a model comes
    first."""
    return tuple(dict.fromkeys((MODEL, *(q.family for q in questions))))
