"""Parts that are not answered yet, answered by processes of this machine.

One process answers a complete part, writes and notes it. Whoever answers it, and however often, the
files are equal: so runs may be killed, repeated, and split over machines.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.faces.scan import earlier
from weighbridge.faces.scan.answers import AnswerRow, each_refused, settled
from weighbridge.faces.scan.asking import MODEL
from weighbridge.faces.scan.dataset import (
    ANSWERS,
    ScanPlan,
    answers_file,
    checked_configs,
    checksum,
    note_file,
    noted,
    parquet,
    put,
    put_json,
    rows_of,
)
from weighbridge.faces.scan.packing import unpacked
from weighbridge.faces.scan.rules import rules
from weighbridge.faces.scan.weigher import ScanLimits, Weigher

Note = dict[str, Any]


class PartDone(NamedTuple):
    """A finished part: its number, the rows written, and the CPU seconds."""

    number: int
    rows: int
    cpu: float


def share(text: str) -> tuple[int, int, int]:
    """Return (first, last, of) for a share of the parts: "0-3/8" is the first four eighths, "3/8"
    the fourth eighth. Raises UsageError for another form."""
    wanted, sign, of = text.partition("/")
    first, _, last = wanted.partition("-")
    try:
        low, high, whole = int(first), int(last or first), int(of)
    except ValueError:
        low, high, whole = 0, -1, 0
    if not sign or not 0 <= low <= high < whole:
        raise UsageError(sentence("scan.parts_form"), where=f"--parts {shown(text)}")
    return low, high, whole


def left(out: Path, plan: ScanPlan, part: int) -> tuple[str, ...]:
    """Return the families whose answers of a part are missing or damaged, or come from other
    rules."""

    def done(family: str) -> bool:
        note = noted(out, plan, family, part)
        if note is None or note.get("rules") != rules(family):
            return False
        return checksum(answers_file(out, family, part)) == note.get("sha256")

    return tuple(family for family in plan.families if not done(family))


def todo(out: Path, plan: ScanPlan, shared: tuple[int, int, int] = (0, 0, 1)) -> list[int]:
    """Return the numbers of the parts of a share that are not completely answered."""
    low, high, whole = shared
    mine = (n for n in range(plan.parts) if low <= n * whole // plan.parts <= high)
    return [n for n in mine if left(out, plan, n)]


def run(
    out: Path, plan: ScanPlan, parts: Sequence[int], jobs: int, limits: ScanLimits
) -> Iterator[PartDone]:
    """Answer parts by `jobs` processes, and yield each when it is written. An error (a full disk)
    ends the run; files already written stay."""
    weighers: SimpleQueue[Weigher] = SimpleQueue()
    started = [Weigher(limits) for _ in range(min(jobs, len(parts)))]
    for weigher in started:
        weighers.put(weigher)

    def answer(number: int) -> PartDone:
        weigher = weighers.get()
        try:
            return do_part(out, plan, number, weigher)
        finally:
            weighers.put(weigher)

    pool = ThreadPoolExecutor(max(1, len(started)))
    try:
        yield from _results(pool, answer, parts)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for weigher in started:
            weigher.end()


def _results(
    pool: ThreadPoolExecutor, answer: Callable[[int], PartDone], parts: Sequence[int]
) -> Iterator[PartDone]:
    waiting: set[Future[PartDone]] = {pool.submit(answer, number) for number in parts}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def do_part(out: Path, plan: ScanPlan, number: int, weigher: Weigher) -> PartDone:
    """Answer the families of one part that are left, and write each into a file and then its
    note."""
    wanted = left(out, plan, number)
    answers: dict[str, list[AnswerRow]] = {family: [] for family in wanted}
    unread = set() if MODEL in wanted else _unread_keys(out, number)
    configs = rows_of(checked_configs(out, plan, number))
    before = earlier.answers(out, plan, [config["key"] for config in configs], wanted)
    cpu = 0.0
    for config in configs:
        key = config["key"]
        if key in unread:  # its row has the reason already
            continue
        for family in wanted:
            answers[family] += before.get((family, key), [])
        missing = [family for family in wanted if (family, key) not in before]
        if missing:
            rows, seconds = _ask(plan, missing, config, weigher)
            cpu += seconds
            for row in rows:
                answers[str(row["family"])].append(row)
    for family, rows in answers.items():
        _write(out, plan, number, family, rows, {"keys": len(configs), "cpu": round(cpu, 3)})
    return PartDone(number, sum(map(len, answers.values())), cpu)


def _ask(
    plan: ScanPlan, wanted: Sequence[str], config: Mapping[str, Any], weigher: Weigher
) -> tuple[list[AnswerRow], float]:
    """Return the answers of the `wanted` families about a config, and the CPU seconds that they
    took."""
    asked = [q for q in plan.questions if q.family in wanted]
    replies = weigher.ask(config["config"], asked)
    rows = replies.rows if MODEL in wanted else each_refused(replies.rows, asked)
    answered = []
    for row in settled(rows, asked):
        family = str(row["family"])
        if family in wanted:
            common = {"key": config["key"], "weighbridge": __version__, "rules": rules(family)}
            answered.append({**row, **common})
    return answered, replies.cpu


def _unread_keys(out: Path, number: int) -> set[str]:
    """Return the keys of a part whose configs cannot be read, from the answers on disk."""
    rows = rows_of(answers_file(out, MODEL, number), "key", "code")
    return {row["key"] for row in rows if row["code"]}


def _write(
    out: Path, plan: ScanPlan, number: int, family: str, rows: list[AnswerRow], noted: Note
) -> None:
    unpacked(out)
    digest = put(answers_file(out, family, number), parquet(rows, ANSWERS))
    refused = Counter(str(row["reason"]) for row in rows if row.get("code"))
    note = {
        "part": number,
        "family": family,
        "rules": rules(family),
        "weighbridge": __version__,
        "questions": plan.of(family),
        "configs": plan.configs[number],
        "rows": len(rows),
        "sha256": digest,
        "refused": dict(sorted(refused.items())),
        **noted,
    }
    put_json(note_file(out, family, number), note)


def manifest(out: Path, plan: ScanPlan) -> dict[str, Any]:
    """Return the content of a dataset: versions, rules, checksums, and the counted reasons of
    questions without an answer."""
    notes = [
        note
        for family in plan.families
        for number in range(plan.parts)
        if (note := noted(out, plan, family, number)) is not None
    ]
    refused: Counter[str] = Counter()
    for note in notes:
        refused.update(note["refused"])
    return {
        **plan.to_dict(),
        "rules": {family: rules(family) for family in plan.families},
        "weighbridge": __version__,
        "rows": sum(note["rows"] for note in notes),
        "cpu": round(sum(n["cpu"] for n in notes if n["family"] == MODEL), 3),
        "refused": dict(refused.most_common()),
        "files": {
            answers_file(Path(), n["family"], n["part"]).as_posix(): n["sha256"] for n in notes
        },
    }
