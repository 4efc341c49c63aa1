"""All answers of a dataset in one file, for queries: a scan of the Hub has thousands of parts.

    answers.parquet   the answers of all parts, by question and then by key
    answers.json      its checksum, and that of the plan; without this note the file is ignored

It is written when no part is left to answer, and is valid until a part is answered again.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from weighbridge.base.errors import BadFileError, WeighbridgeError
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.faces.scan.dataset import (
    ANSWERS,
    ScanPlan,
    answers_file,
    arrow_schema,
    checksum,
    note_of,
    noted,
    put,
    put_json,
    rows_of,
)

PACKED, NOTE = "answers.parquet", "answers.json"
GROUP = 1 << 14  # rows per row group: a query of one question reads few rows of other questions


def pack(out: Path, plan: ScanPlan) -> None:
    """Write the answers of all parts, which must exist and be undamaged, into one file."""
    from pyarrow import dataset, parquet

    written = BytesIO()
    schema = arrow_schema(ANSWERS)
    with parquet.ParquetWriter(written, schema, compression="zstd") as file:
        for family in plan.families:
            paths = [str(answers_file(out, family, number)) for number in range(plan.parts)]
            rows = dataset.dataset(paths, schema=schema, format="parquet").to_table()
            order = [("question", "ascending"), ("key", "ascending")]
            file.write_table(rows.sort_by(order), row_group_size=GROUP)
    digest = put(out / PACKED, written.getvalue())
    put_json(out / NOTE, {"sha256": digest, "plan": checksum(out / "plan.json")})


def packed(out: Path) -> Path | None:
    """Return the file of all answers; None if it belongs to another plan, or parts are newer."""
    note = note_of(out / NOTE)
    if note is None or note.get("plan") != checksum(out / "plan.json"):
        return None
    path = out / PACKED
    return path if path.exists() else None


def unpacked(out: Path) -> None:
    """Mark the file of all answers as out of date."""
    (out / NOTE).unlink(missing_ok=True)


def fault(out: Path) -> str | None:
    """Return a sentence on a damaged file of all answers; None if it is undamaged or not used."""
    path, note = packed(out), note_of(out / NOTE)
    if note is None and (out / NOTE).exists():
        return _other_file_line(out / NOTE, out)
    if path is None or note is None or checksum(path) == note.get("sha256"):
        return None
    return _other_file_line(path, out)


def faults_of_part(out: Path, plan: ScanPlan, part: int) -> Iterator[str]:
    """Yield a sentence for each file of a part's answers whose checksum differs from its note."""
    for family in plan.families:
        note, path = noted(out, plan, family, part), answers_file(out, family, part)
        if note is not None and checksum(path) != note.get("sha256"):
            yield _other_file_line(path, out)


def unreadable(*datasets: tuple[Path, ScanPlan]) -> BadFileError | None:
    """Return the error that names a damaged file of these datasets; None if none is damaged."""
    for out, plan in datasets:
        faults = [fault(out)] if packed(out) else _all_faults(out, plan)
        for line in (*faults_of_models(out, plan), *faults):
            if line is not None:
                return BadFileError(line)
    return None


def _all_faults(out: Path, plan: ScanPlan) -> Iterator[str]:
    for part in range(plan.parts):
        yield from faults_of_part(out, plan, part)


def faults_of_models(out: Path, plan: ScanPlan) -> Iterator[str]:
    """Yield a sentence on each fault of the list of models."""
    path = out / "models.parquet"
    try:
        rows_of(path)
    except WeighbridgeError as error:
        yield error.line
        return
    if plan.models and checksum(path) != plan.models:
        yield about(str(path), sentence("scan.replan"))


def _other_file_line(path: Path, out: Path) -> str:
    again = sentence("scan.writes_again", folder=out)
    return about(str(path), clauses(sentence("scan.other_written"), again))
