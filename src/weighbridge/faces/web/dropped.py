"""Files dropped on the page: their name, size, and as many first bytes as a parser needs. If it
needs more, `ShortError` has the number."""

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from hashlib import sha256
from typing import Any

from weighbridge.answers.questions.prepared import Prepared
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.checkpoint.gather import GatherOptions
from weighbridge.models.checkpoint.reading import Reader
from weighbridge.models.formats.strict_json import MAX_CONFIG, strict_json
from weighbridge.models.sources.base import SourceFile, inside, span
from weighbridge.workload import MOST_BESIDE

PASTED = ".text"  # ending of pasted text, which has no name: its content tells its kind
RUNS = (  # endings of files that start a run
    *(
        ".yaml",
        ".yml",
        ".toml",
        ".sh",
        ".bash",
        ".slurm",
        ".py",
        ".ipynb",
        ".md",
        ".modelfile",
        PASTED,
    ),
)
KINDS = (".safetensors", ".gguf", ".json", ".jsonl", *RUNS)
RUN = ".jsonl"
KEYS = frozenset({"name", "size", "head", "key"})
KEPT = 4  # most files that later asks may name by key, without their bytes
MOST_NAME = 255  # most characters of a file's name
MOST_SIZE = 1 << 62


class ShortError(Exception):
    """The error if more bytes of a dropped file are needed; `nbytes` is the number of first bytes
    to send."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(f"the first {nbytes:,} bytes are needed")
        self.nbytes = nbytes


class DroppedHead(NamedTuple):
    """The first bytes of a dropped file, read like a folder that holds only this file."""

    name: str
    size: int
    head: bytes
    revision: str | None = None
    notes: tuple[str, ...] = ()
    waits: bool = False

    def list(self) -> tuple[SourceFile, ...]:
        return (SourceFile(self.name, self.size),)

    def read(self, path: str, start: int, stop: int) -> bytes:
        if path != self.name:
            raise NotFoundError(sentence("dropped_alone", name=self.name, path=shown(path)))
        first, last = span(start, stop, self.size)
        if last > len(self.head):
            raise ShortError(last)
        return self.head[first:last]

    @property
    def key(self) -> str:
        """Return a hash of the name, the size and the first bytes; the browser sends it in place of
        the file later."""
        head = f"{self.name}\0{self.size}\0".encode(errors="surrogatepass")
        return sha256(head + self.head).hexdigest()


class Dropped:
    """The models of the files dropped last, by their keys."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Prepared] = OrderedDict()

    def prepared(self, file: Any) -> tuple[Prepared, str]:
        """Return the model of a dropped file, and the file's key. Raises ShortError, UsageError or
        BadFileError."""
        checked = _checked_fields(file)
        key = checked.get("key")
        if isinstance(key, str) and key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], key
        head = head_of(checked)
        if head.name.lower().endswith(RUN):
            raise UsageError(sentence("dropped.asks", name=head.name))
        inventory = Reader(head.name, head, None).inventory()
        model = Prepared(head.name, GatherOptions(), inventory)
        while len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
        self._kept[head.key] = model
        return model, head.key


def _checked_fields(file: Any) -> dict[str, Any]:
    if not isinstance(file, dict) or not file.keys() <= KEYS:
        raise UsageError(sentence("dropped.fields"))
    return file


def head_of(file: dict[str, Any]) -> DroppedHead:
    """Return the first bytes of a dropped file as the browser sent them. Raises ShortError if it
    sent none, and UsageError for a bad name or size."""
    name, size = file.get("name"), file.get("size")
    if not isinstance(name, str) or not name.isprintable() or len(name) > MOST_NAME:
        raise UsageError(sentence("dropped.name", most=MOST_NAME))
    if "/" in name or not name.lower().endswith(KINDS):
        raise UsageError(sentence("dropped.kinds", name=shown(name), known=", ".join(KINDS)))
    inside(name)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MOST_SIZE:
        raise UsageError(sentence("dropped.size", name=shown(name), value=shown(size)))
    if file.get("head") is None:
        raise ShortError(min(size, FIRST))
    head = _decoded(file["head"], name)
    if len(head) > size:
        raise UsageError(sentence("dropped.sent", name=shown(name), size=size, count=len(head)))
    return DroppedHead(name, size, head)


FIRST = 1 << 20  # bytes requested first: enough for the headers of most files


def _decoded(text: Any, name: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError, Base64Error):
        raise UsageError(sentence("dropped.head", name=shown(name))) from None


class Asks(NamedTuple):
    """Requests read from a file; `notes` list the keys that were not understood."""

    asks: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


def asks_of(file: Any) -> Asks:
    """Return the requests of a file: one per line, or one per run that the file starts. Raises
    ShortError, UsageError or BadFileError."""
    head = head_of(_checked_fields(file))
    if head.size > MAX_CONFIG:
        raise BadFileError(sentence("asks.large", name=head.name, most=MAX_CONFIG))
    data = head.read(head.name, 0, head.size)
    if head.name.lower().endswith(RUNS):
        return _asks_of_runs(data, head.name)
    lines = [line for line in data.splitlines() if line.strip()]
    if not 1 <= len(lines) <= MOST_BESIDE:
        raise UsageError(sentence("asks.many", name=head.name, count=len(lines), most=MOST_BESIDE))
    return Asks(
        [_parsed_ask(line, f"{head.name}, line {number}") for number, line in enumerate(lines, 1)]
    )


def _asks_of_runs(data: bytes, name: str) -> Asks:
    """Return the runs of a file as requests, with notes on the keys that were not understood."""
    from weighbridge.files.runfiles import asked, read  # imported only if such a file was dropped
    from weighbridge.files.runfiles.document import decoded

    called = "the text" if name.endswith(PASTED) else name
    question = asked.read(decoded(data, called)) if name.endswith(PASTED) else None
    if question is not None:
        return Asks([question.request()])
    runs = [run for run in read(decoded(data, called), called).runs if not run.refused]
    if not runs:
        refused = read(decoded(data, called), called).runs[0].refused
        raise UsageError(f"{called}: {refused}")
    asks = [
        {
            "task": run.task,
            "model": run.model,
            "workload": {**run.settings, **({"command": run.command} if run.command else {})},
        }
        for run in runs[:MOST_BESIDE]
    ]
    unread = (f"{u.line}: {u.key}: {u.why}" for run in runs[:MOST_BESIDE] for u in run.unread)
    return Asks(asks, tuple(dict.fromkeys(unread)))


def _parsed_ask(line: bytes, where: str) -> dict[str, Any]:
    try:
        ask = strict_json(line, MAX_CONFIG, constants=True)
        json.dumps(ask)
    except BadFileError as error:
        raise BadFileError(f"{where} {error}") from None
    if not isinstance(ask, dict) or "task" not in ask:
        raise BadFileError(sentence("asks.none", where=where))
    return ask
