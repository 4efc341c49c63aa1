"""Answers of the previous plan. A key that was asked these questions under today's rules is not
asked again, whatever part it is in now.

    earlier.parquet   all answers of that plan
    earlier.json      its questions; without it the file is ignored
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import about, sentence
from weighbridge.faces.scan.answers import AnswerRow
from weighbridge.faces.scan.asking import MODEL
from weighbridge.faces.scan.dataset import (
    ANSWERS,
    ScanPlan,
    arrow_schema,
    checksum,
    note_of,
    plan_of,
    put,
    put_json,
)
from weighbridge.faces.scan.packing import fault, packed
from weighbridge.faces.scan.rules import rules

EARLIER, NOTE = "earlier.parquet", "earlier.json"
KNOWN = {MODEL: [MODEL]}  # questions of the family that no plan lists


def set_aside(out: Path) -> None:
    """Save all answers of a dataset before another plan replaces it."""
    if not (out / "plan.json").exists():
        return
    path = packed(out)
    if path is None or fault(out):  # incomplete answers: those saved before are still best
        return
    asked = plan_of(out).to_dict()["questions"]
    (out / NOTE).unlink(missing_ok=True)
    digest = put(out / EARLIER, path.read_bytes())
    put_json(out / NOTE, {"questions": asked, "sha256": digest})


def faults(out: Path) -> Iterator[str]:
    """Yield a sentence on each fault of the saved answers, if they are used."""
    note, path = note_of(out / NOTE), out / EARLIER
    if note is not None and path.exists() and not _is_whole(path, note):
        yield about(str(path), sentence("scan.other_file"))


def _check(out: Path) -> None:
    """Check that the saved answers are undamaged; raise BadFileError if not."""
    for wrong in faults(out):
        raise BadFileError(wrong)


def _is_whole(path: Path, note: Mapping[str, Any]) -> bool:
    digest = note.get("sha256")
    return digest is None or _cached_checksum(path, path.stat().st_mtime_ns) == digest


@lru_cache(maxsize=4)
def _cached_checksum(path: Path, changed: int) -> str:
    """Return the checksum of a file, computed once per `changed`, the time of its last change: each
    part asks for it."""
    return checksum(path)


def answers(
    out: Path, plan: ScanPlan, keys: Sequence[str], wanted: Sequence[str]
) -> Mapping[tuple[str, str], list[AnswerRow]]:
    """Return (family, key) -> saved answers, for the families whose questions are all answered; an
    empty list if the config cannot be read."""
    note = note_of(out / NOTE)
    if note is None or not keys or not (out / EARLIER).exists():
        return {}
    _check(out)
    names = _known_questions(note, plan, wanted)
    rows: dict[tuple[str, str], dict[Any, AnswerRow]] = defaultdict(dict)
    for row in _saved_rows(out / EARLIER, keys, sorted({MODEL, *names})):
        if row["rules"] == rules(row["family"]):
            rows[row["family"], row["key"]][row["question"]] = row
    usable = {}
    for family, asked in names.items():
        for key in keys:
            refused = rows[MODEL, key].get(MODEL, {}).get("code")
            answer = rows[family, key]
            if refused and family != MODEL:
                usable[family, key] = list[AnswerRow]()
            elif all(name in answer for name in asked):
                usable[family, key] = [answer[name] for name in asked]
    return usable


def _known_questions(
    note: Mapping[str, Any], plan: ScanPlan, wanted: Sequence[str]
) -> dict[str, list[str]]:
    """Return family -> names of its questions, for the families whose questions were all asked
    before."""
    before = note["questions"]
    names = {}
    for family in wanted:
        asked = plan.of(family)
        if all(one in before for one in asked):
            names[family] = KNOWN.get(family) or [one["name"] for one in asked]
    return names


def _saved_rows(path: Path, keys: Sequence[str], families: Sequence[str]) -> list[dict[str, Any]]:
    from pyarrow import ArrowException, dataset

    field = dataset.field
    where = field("key").isin(list(keys)) & field("family").isin(list(families))
    try:
        table = dataset.dataset(path, schema=arrow_schema(ANSWERS), format="parquet").to_table(
            filter=where
        )
    except (ArrowException, OSError):
        raise BadFileError(sentence("scan.other_answers"), where=str(path)) from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
