"""The files of a scan, and how they are written: completely, or not at all.

    plan.json                       the questions, and how many parts there are
    models.parquet                  a row per model: id, sha, downloads, key, unread
    configs/part-0007.parquet       a row per key: the config's values that decide memory
    answers/vllm/part-0007.parquet  a row per key and question of one family
    notes/vllm/part-0007.json       the checksum of these answers, and a hash of the rules they
                                    follow; like all JSON here it holds a checksum, its seal
    answers.parquet                 all answers in one, for queries (packing.py)
    manifest.json                   a list of all files with their checksums
    earlier.parquet                 answers of the previous plan (earlier.py)
    fetched.sqlite                  configs as a Hub sent them, by id and sha: not to be shared

A file is written under another name, forced to the disk and renamed; the note comes last. So a part
counts as done when its note is right, whenever a process was killed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence
from weighbridge.faces.scan.asking import ScanQuestion, families
from weighbridge.memory.report.columns import COLUMNS, FlatColumn
from weighbridge.models.formats.strict_json import strict_object

SCHEMA = "weighbridge.scan/1"
FETCHED = "fetched.sqlite"
MODELS = (
    FlatColumn("id", "text", "the model's name in its registry"),
    FlatColumn("sha", "text", "its revision there, or the hash of its config"),
    FlatColumn("downloads", "whole", "as the registry counts them"),
    FlatColumn("key", "text", "what `answers` has it under; null where its config was not read"),
    FlatColumn("unread", "text", "why its config was not read"),
)
CONFIGS = (
    FlatColumn("key", "text", "`weighbridge.key` of the config, or one of weights besides"),
    FlatColumn("config", "text", "what decides memory in it, as JSON; text is the path of weights"),
)
ANSWERS = (
    FlatColumn("key", "text", "the config that was asked"),
    FlatColumn("question", "text", "its name in the plan; `model`: is the config read at all?"),
    FlatColumn("family", "text", "whose rules answered: model, load, train or an engine"),
    *COLUMNS,
    FlatColumn("code", "whole", "0, or the exit code that the command has for it"),
    FlatColumn("message", "text", "why there is no answer"),
    FlatColumn("reason", "text", "the same without names and numbers, to count by"),
    FlatColumn("weighbridge", "text", "the release that answered"),
    FlatColumn("rules", "text", "a hash of the rules that the family answers by"),
)
SEAL = "seal"  # key in a JSON file: the checksum of all its other keys
MOST_PLAN = 16_000_000  # most bytes of a plan or a note


@dataclass(frozen=True, kw_only=True)
class ScanPlan:
    """The questions of a scan, and the number of parts that its configs are divided into."""

    parts: int
    questions: tuple[ScanQuestion, ...]
    source: str
    counts: Mapping[str, int]
    configs: tuple[str, ...]  # checksums of the files of configs, part by part
    models: str = ""  # checksum of the list of models

    @property
    def families(self) -> tuple[str, ...]:
        return families(self.questions)

    def of(self, family: str) -> list[dict[str, Any]]:
        """Return the questions of a family as JSON objects."""
        return [_told(q) for q in self.questions if q.family == family]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "parts": self.parts,
            "source": self.source,
            "counts": dict(self.counts),
            "configs": list(self.configs),
            "models": self.models,
            "questions": [_told(q) for q in self.questions],
        }


def _told(question: ScanQuestion) -> dict[str, Any]:
    return {"name": question.name, "task": question.task, "settings": dict(question.settings)}


def needed(*modules: str, extra: str = "scan") -> None:
    """Check that the libraries `modules` of an extra are installed; raise UsageError if not."""
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        packages = " and ".join(missing)
        raise UsageError(sentence("scan.needs", names=packages, extra=extra))


def part_name(number: int) -> str:
    return f"part-{number:04d}"


def configs_file(out: Path, number: int) -> Path:
    return out / "configs" / f"{part_name(number)}.parquet"


def answers_file(out: Path, family: str, number: int) -> Path:
    return out / "answers" / family / f"{part_name(number)}.parquet"


def note_file(out: Path, family: str, number: int) -> Path:
    return out / "notes" / family / f"{part_name(number)}.json"


def plan_of(out: Path) -> ScanPlan:
    """Return the plan of a dataset. Raises WeighbridgeError if there is none, or it is damaged."""
    content = json_of(out / "plan.json")
    if content is None:
        raise NotFoundError(sentence("scan.no_plan", folder=out), where=str(out))
    try:
        if content["schema"] != SCHEMA:
            raise BadFileError(
                sentence("scan.schema", schema=content["schema"], known=SCHEMA), where=str(out)
            )
        asked = tuple(ScanQuestion(**q) for q in content["questions"])
        plan = ScanPlan(
            parts=int(content["parts"]),
            questions=asked,
            source=content["source"],
            counts=content["counts"],
            configs=tuple(content["configs"]),
            models=str(content.get("models", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadFileError(
            sentence("scan.bad_plan", why=repr(error)), where=str(out / "plan.json")
        ) from None
    if plan.parts != len(plan.configs):
        raise BadFileError(sentence("scan.parts", count=plan.parts), where=str(out / "plan.json"))
    return plan


def noted(out: Path, plan: ScanPlan, family: str, part: int) -> dict[str, Any] | None:
    """Return the note about a file of answers; None if there is none for this plan's configs and
    questions."""
    note = note_of(note_file(out, family, part))
    of_this = {"configs": plan.configs[part], "questions": plan.of(family)}
    if note is None or any(note.get(name) != value for name, value in of_this.items()):
        return None
    return note


def checked_configs(out: Path, plan: ScanPlan, part: int) -> Path:
    """Return the file of a part's configs. Raises BadFileError if its checksum is not the planned
    one."""
    path = configs_file(out, part)
    if checksum(path) != plan.configs[part]:
        raise BadFileError(sentence("scan.replan"), where=str(path))
    return path


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file; "" if it does not exist."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def json_of(path: Path) -> dict[str, Any] | None:
    """Return the content of a dataset's JSON file, without its seal; None if it does not exist.
    Raises BadFileError if it is damaged."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content: dict[str, Any] = strict_object(raw, MOST_PLAN)
    except BadFileError as error:
        raise BadFileError(f"{path}: {error}") from None
    if content.pop(SEAL, None) != sealed(content):
        raise BadFileError(sentence("scan.seal"), where=str(path))
    return content


def sealed(content: Mapping[str, Any]) -> str:
    """Return the checksum of the content of a JSON file, its seal, which the file stores."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def note_of(path: Path) -> dict[str, Any] | None:
    """Return the content of a note; None if it is missing or damaged, so that its work is done
    again."""
    try:
        return json_of(path)
    except BadFileError:
        return None


def put(path: Path, content: bytes) -> str:
    """Write a file completely or not at all; return its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:  # most likely a full disk: name the file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)
    return sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Force the name of a new file to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with its seal, so that one wrong byte is noticed."""
    put(path, (json.dumps({**content, SEAL: sealed(content)}, indent=1) + "\n").encode())


def arrow_schema(columns: Sequence[FlatColumn]) -> Any:
    """Return the Arrow schema of a dataset's file: text, and integers of 64 bits."""
    import pyarrow

    kinds = {"text": pyarrow.string(), "whole": pyarrow.int64()}
    schema = pyarrow.schema([(column.name, kinds[column.kind]) for column in columns])
    return schema.with_metadata({"schema": SCHEMA})


def parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[FlatColumn]) -> bytes:
    """Return rows as a Parquet file, compressed with zstd: equal rows give equal bytes."""
    import pyarrow
    from pyarrow import parquet as files

    values = {c.name: [row.get(c.name) for row in rows] for c in columns}
    written = BytesIO()
    table = pyarrow.table(values, schema=arrow_schema(columns))
    files.write_table(table, written, compression="zstd", row_group_size=1 << 17)
    return written.getvalue()


def rows_of(path: Path, *names: str) -> list[dict[str, Any]]:
    """Return the rows of a dataset's Parquet file, with the columns `names` or all. Raises
    BadFileError if it cannot be read."""
    from pyarrow import ArrowException
    from pyarrow import parquet as files

    try:
        rows: list[dict[str, Any]] = files.read_table(path, columns=list(names) or None).to_pylist()
        return rows
    except FileNotFoundError:
        raise NotFoundError(sentence("scan.missing"), where=str(path)) from None
    except (ArrowException, OSError) as error:
        raise BadFileError(sentence("scan.unread_plan", why=str(error)), where=str(path)) from None
