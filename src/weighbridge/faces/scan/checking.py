"""The check whether a dataset is complete: each question of each key once, and every file with its
checksum."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.faces.scan import earlier
from weighbridge.faces.scan.asking import MODEL
from weighbridge.faces.scan.dataset import (
    ScanPlan,
    answers_file,
    checked_configs,
    json_of,
    noted,
    rows_of,
)
from weighbridge.faces.scan.packing import fault, faults_of_models, faults_of_part
from weighbridge.faces.scan.running import left, manifest

AnswersByFamily = dict[str, list[dict[str, Any]]]


class ScanCheck(NamedTuple):
    """The result of a check: the number of parts left to answer, counts, and faults as
    sentences."""

    left: int
    parts: int
    rows: int
    keys: int
    faults: tuple[str, ...]

    @property
    def code(self) -> int:
        """Return the exit code: 2 if there are faults, 1 if parts are left, else 0."""
        return 2 if self.faults else 1 if self.left else 0


def check(out: Path, plan: ScanPlan) -> ScanCheck:
    """Check every file of a dataset and return the parts left, the counts and the faults."""
    waiting = rows = keys = 0
    faults: list[str] = []
    for number in range(plan.parts):
        waiting += bool(left(out, plan, number))
        try:
            asked = {row["key"] for row in rows_of(checked_configs(out, plan, number), "key")}
            keys += len(asked)
            other = tuple(faults_of_part(out, plan, number))
            answers = (
                {}
                if other
                else (
                    {
                        family: rows_of(
                            answers_file(out, family, number), "key", "question", "code"
                        )
                        for family in plan.families
                        if noted(out, plan, family, number)
                    }
                )
            )
        except WeighbridgeError as error:
            faults.append(error.line)
            continue
        faults += other
        rows += sum(map(len, answers.values()))
        faults += _answer_faults(plan, asked, answers, number)
    faults += [*faults_of_models(out, plan), *earlier.faults(out)]
    whole = fault(out)
    faults += [whole] if whole else []
    if not waiting and not faults:
        faults += _manifest_faults(out, plan)
    return ScanCheck(waiting, plan.parts, rows, keys, tuple(faults))


def _manifest_faults(out: Path, plan: ScanPlan) -> Iterator[str]:
    """Yield faults of manifest.json, the list of all files, in a complete dataset."""
    path = out / "manifest.json"
    again = sentence("scan.writes_again", folder=out)
    try:
        content = json_of(path)
    except WeighbridgeError as error:
        yield clauses(error.line, again)
        return
    if content is not None and content.get("files") != manifest(out, plan)["files"]:
        yield about(str(path), clauses(sentence("scan.not_these"), again))


def _answer_faults(
    plan: ScanPlan, keys: set[str], answers: AnswersByFamily, number: int
) -> Iterator[str]:
    """Yield faults for answers that are missing or repeated in part `number`. A config that cannot
    be read has only one row."""
    if MODEL not in answers:
        return
    read = {row["key"] for row in answers[MODEL] if row["code"] == 0}
    for family, rows in answers.items():
        there = [(row["key"], row["question"]) for row in rows]
        names = [q.name for q in plan.questions if q.family == family]
        wanted = {(k, n) for k in read for n in names}
        odd = set(there) ^ ({(k, MODEL) for k in keys} if family == MODEL else wanted)
        if len(there) != len(set(there)):
            yield sentence("scan.part_twice", number=number, family=family)
        if odd:
            yield sentence("scan.part_missing", number=number, family=family, count=len(odd))
