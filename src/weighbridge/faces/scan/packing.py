"""All answers of a dataset in one file, for queries: a scan of the Hub has thousands of parts.

    answers.parquet   the answers of all parts, by question and then by key
    answers.json      its checksum, and that of the plan; without it the file counts for nothing

It is written when nothing is left to answer, and counts until a part is answered anew.
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
GROUP = 1 << 14  # rows per row group: a query of one question reads little of others


def pack(out: Path, plan: ScanPlan) -> None:
    """Write the answers of all parts, which must be there and whole, into one file."""
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
    """Return the file of all answers; None if it is of another plan, or parts are newer."""
    note = note_of(out / NOTE)
    if note is None or note.get("plan") != checksum(out / "plan.json"):
        return None
    path = out / PACKED
    return path if path.exists() else None


def unpacked(out: Path) -> None:
    """Mark the file of all answers as out of date."""
    (out / NOTE).unlink(missing_ok=True)


def fault(out: Path) -> str | None:
    """Return what is wrong with the file of all answers, None if nothing or it is not used."""
    path, note = packed(out), note_of(out / NOTE)
    if note is None and (out / NOTE).exists():
        return _another(out / NOTE, out)
    if path is None or note is None or checksum(path) == note.get("sha256"):
        return None
    return _another(path, out)


def faults_of_part(out: Path, plan: ScanPlan, part: int) -> Iterator[str]:
    """Yield a sentence for each file of a part's answers that is not as it was noted."""
    for family in plan.families:
        note, path = noted(out, plan, family, part), answers_file(out, family, part)
        if note is not None and checksum(path) != note.get("sha256"):
            yield _another(path, out)


def unreadable(*datasets: tuple[Path, ScanPlan]) -> BadFileError | None:
    """Return the error that names a damaged file of these datasets, which could not be read; None
    if none is damaged."""
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
    """Yield what is wrong with the list of models."""
    path = out / "models.parquet"
    try:
        rows_of(path)
    except WeighbridgeError as error:
        yield error.line
        return
    if plan.models and checksum(path) != plan.models:
        yield about(str(path), sentence("scan.replan"))


def _another(path: Path, out: Path) -> str:
    again = sentence("scan.writes_again", folder=out)
    return about(str(path), clauses(sentence("scan.other_written"), again))
