"""Answers of the previous plan. A key that was asked the same questions under the rules of today is
not asked again, in whatever part it is now.

    earlier.parquet   all answers of that plan
    earlier.json      its questions; without it the file counts for nothing
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
    if path is None or fault(out):  # not all is whole: what was saved before is still best
        return
    asked = plan_of(out).to_dict()["questions"]
    (out / NOTE).unlink(missing_ok=True)
    digest = put(out / EARLIER, path.read_bytes())
    put_json(out / NOTE, {"questions": asked, "sha256": digest})


def faults(out: Path) -> Iterator[str]:
    """Yield what is wrong with the saved answers, if they are used."""
    note, path = note_of(out / NOTE), out / EARLIER
    if note is not None and path.exists() and not _is_whole(path, note):
        yield about(str(path), sentence("scan.other_file"))


def _check(out: Path) -> None:
    """Raise BadFileError if the saved answers are damaged."""
    for wrong in faults(out):
        raise BadFileError(wrong)


def _is_whole(path: Path, note: Mapping[str, Any]) -> bool:
    digest = note.get("sha256")
    return digest is None or _digest(path, path.stat().st_mtime_ns) == digest


@lru_cache(maxsize=4)
def _digest(path: Path, changed: int) -> str:
    """Return the checksum of a file, computed once per `changed`: each part asks for it."""
    return checksum(path)


def answers(
    out: Path, plan: ScanPlan, keys: Sequence[str], wanted: Sequence[str]
) -> Mapping[tuple[str, str], list[AnswerRow]]:
    """Return the saved answers by (family, key), if they answer all questions of the family."""
    note = note_of(out / NOTE)
    if note is None or not keys or not (out / EARLIER).exists():
        return {}
    _check(out)
    names = _alike(note, plan, wanted)
    rows: dict[tuple[str, str], dict[Any, AnswerRow]] = defaultdict(dict)
    for row in _rows(out / EARLIER, keys, sorted({MODEL, *names})):
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


def _alike(note: Mapping[str, Any], plan: ScanPlan, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Return, by family, the names of its questions if all of them were asked before."""
    before = note["questions"]
    names = {}
    for family in wanted:
        asked = plan.of(family)
        if all(one in before for one in asked):
            names[family] = KNOWN.get(family) or [one["name"] for one in asked]
    return names


def _rows(path: Path, keys: Sequence[str], families: Sequence[str]) -> list[dict[str, Any]]:
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
