"""SQL over a dataset, by DuckDB: the views `models`, `answers`, `weighed`, which joins both, and
`unweighed`, the models without an answer.

A query sees these views and nothing else of the machine: files are handed over as Arrow datasets,
or named to DuckDB, which reads them faster; then all other access from within SQL is closed, and it
can only read.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.memory import Bytes
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import one_line
from weighbridge.faces.scan.asking import MODEL
from weighbridge.faces.scan.dataset import (
    ANSWERS,
    MODELS,
    ScanPlan,
    answers_file,
    arrow_schema,
    noted,
)
from weighbridge.faces.scan.packing import packed, unreadable
from weighbridge.memory.report.columns import FlatColumn
from weighbridge.memory.report.scanned import ScanCell, ScanLine, ScanSummary, Unweighed

WEIGHED = (
    "create view weighed as select m.id, m.sha, m.downloads, a.* "
    "from models m join answers a using (key)"
)
UNWEIGHED = f"""
create view unweighed as
select m.id, m.sha, m.downloads, m.key, coalesce(m.unread, a.message) as why
from models m left join (select * from answers where question = '{MODEL}') a using (key)
where m.unread is not null or a.code <> 0
"""
CLOSED = (  # closes files, addresses, DuckDB's extensions, and variables of this program
    "set python_enable_replacements = false",
    "set temp_directory = ''",
    "set enable_external_access = false",
    "set lock_configuration = true",
)
FIRST = f"""
select id, key, coalesce(unread, a.message) as reason, a.parameters
from models left join (select * from answers where question = '{MODEL}') a using (key)
order by downloads desc nulls last, a.parameters desc nulls last, id limit ?
"""
FIRST_UNWEIGHED = """
select id, why from unweighed order by downloads desc nulls last, id limit 5
"""
OF_KEYS = f"""
select key, question, gpu, fits, need_low, need, need_high, usable
from answers where question <> '{MODEL}' and need is not null and list_contains(?, key)
order by usable, gpu
"""


class ScanResult(NamedTuple):
    """The answer to a query: column names and rows."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class ScanView:
    """A dataset that is open for SQL queries."""

    def __init__(self, out: Path, plan: ScanPlan) -> None:
        import duckdb

        self._of = out, plan
        self._connection = duckdb.connect()
        self._reads = duckdb.StatementType.SELECT
        whole = packed(out)
        if whole is None:
            self._connection.register("models", models_of(out))
            self._connection.register("answers", answers_of(out, plan))
        else:
            self._opened({"models": out / "models.parquet", "answers": whole})
        self._connection.execute(WEIGHED)
        self._connection.execute(UNWEIGHED)
        for line in CLOSED:
            self._connection.execute(line)

    def _opened(self, paths: Mapping[str, Path]) -> None:
        """Let DuckDB read these files, each as a view, and no other files."""
        texts = {name: str(path.resolve()).replace("'", "''") for name, path in paths.items()}
        allowed = ", ".join(f"'{text}'" for text in texts.values())
        try:
            self._connection.execute(f"set allowed_paths = [{allowed}]")
            for name, text in texts.items():
                statement = f"create view {name} as select * from read_parquet('{text}')"
                self._connection.execute(statement)
        except duckdb_error() as error:
            raise unread(error, self._of) from None

    def _check_reads_only(self, sql: str) -> None:
        """Check that SQL only reads, since DuckDB may write the files that it may read; raise
        UsageError if not."""
        for statement in self._connection.extract_statements(sql):
            if statement.type != self._reads:
                raise UsageError(sentence("sql.reads"))

    def ask(self, sql: str, values: Sequence[Any] = (), *, most: int = 1_000_000) -> ScanResult:
        """Return the answer to a query, at most `most` rows. Raises UsageError if DuckDB refuses
        it."""
        try:
            self._check_reads_only(sql)
            done = self._connection.execute(sql, list(values))
            if done is None:  # the SQL has no statement
                raise UsageError(sentence("sql.empty"))
            names = tuple(column[0] for column in done.description or ())
            return ScanResult(names, done.fetchmany(most) if names else [])
        except duckdb_error() as error:
            raise damaged(error, self._of) or UsageError(
                f"the query: {one_line(str(error))}"
            ) from None

    def table(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Return the answer to one of weighbridge's queries as an Arrow table, which holds millions
        of rows."""
        try:
            return self._connection.sql(sql, params=list(values)).to_arrow_table()
        except duckdb_error() as error:
            raise unread(error, self._of) from None

    def unweighed(self) -> Unweighed:
        """Return the number of models without any answer, and the five most downloaded of them by
        name."""
        (count,) = self.ask("select count(*) from unweighed").rows[0]
        return Unweighed(count, tuple(self.ask(FIRST_UNWEIGHED).rows))

    def summary(self, plan: ScanPlan, most: int, place: Path | None = None) -> ScanSummary:
        """Return up to `most` models with all their answers, the most downloaded first, else the
        largest. `place` is the dataset's folder, None if that is temporary."""
        first = self.ask(FIRST, [most]).rows
        labels = {q.name: q.label for q in plan.questions}
        by_model: dict[str, dict[str, list[ScanCell]]] = defaultdict(lambda: defaultdict(list))
        for row in self.ask(OF_KEYS, [[key for _, key, *_ in first if key]]).rows:
            key, question, gpu, fits, low, need, high, usable = row
            by_model[key][labels[question]].append(
                ScanCell(gpu, fits, Bytes(low, need, high), usable)
            )
        lines = (
            ScanLine(name, parameters, reason, {q: tuple(cs) for q, cs in by_model[key].items()})
            for name, key, reason, parameters in first
        )
        cards = {c.gpu: None for cells in by_model.values() for cs in cells.values() for c in cs}
        return ScanSummary(
            source=plan.source,
            counts=plan.counts,
            cards=tuple(gpu for gpu in cards if gpu),
            questions=tuple(dict.fromkeys(labels.values())),
            lines=tuple(lines),
            unweighed=self.unweighed(),
            place=None if place is None else str(place),
        )


def duckdb_error() -> type[Exception]:
    """Return the class of DuckDB's errors."""
    import duckdb

    error: type[Exception] = duckdb.Error
    return error


def damaged(error: Exception, *datasets: tuple[Path, ScanPlan]) -> BadFileError | None:
    """Return the error to raise in place of a DuckDB error if a file of these datasets is damaged,
    else None. An error in the SQL itself is about no file."""
    import duckdb

    of_sql = duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException
    return None if isinstance(error, of_sql) else unreadable(*datasets)


def unread(error: Exception, *datasets: tuple[Path, ScanPlan]) -> BadFileError:
    """Return the error to raise if one of weighbridge's queries fails."""
    unreadable = BadFileError(f"the dataset cannot be read: {one_line(str(error))}")
    return damaged(error, *datasets) or unreadable


def models_of(out: Path) -> Any:
    """Return the models of a dataset as an Arrow dataset, for SQL."""
    path = out / "models.parquet"
    if not path.exists():
        raise BadFileError(sentence("scan.missing"), where=str(path))
    return _opened([path], MODELS)


def answers_of(out: Path, plan: ScanPlan) -> Any:
    """Return the answers so far as an Arrow dataset, without files that no note of this plan
    lists."""
    whole = packed(out)
    paths = (
        [whole]
        if whole
        else [
            answers_file(out, family, number)
            for family in plan.families
            for number in range(plan.parts)
            if noted(out, plan, family, number)
        ]
    )
    return _opened(paths, ANSWERS)


def _opened(paths: Sequence[Path], columns: Sequence[FlatColumn]) -> Any:
    import pyarrow
    from pyarrow import dataset

    schema = arrow_schema(columns)
    if not paths:
        return schema.empty_table()
    try:
        return dataset.dataset([str(path) for path in paths], schema=schema, format="parquet")
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise BadFileError(
            sentence("scan.unread", why=str(error)), where=str(paths[0].parent)
        ) from None
