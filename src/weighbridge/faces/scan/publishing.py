"""A dataset for readers: one folder that the page reads by ranges, and that a Hub shows.

    registry.json     questions, cards, counts, and the size of every file
    models.parquet    a row per model, the most downloaded first
    keys.parquet      a row per key, in the order of their numbers
    answers.parquet   a row per key and question; one row group per question
    names.parquet     the words of names, if there are more models than a reader takes at once
    README.md         the card of the dataset (card.py)

Keys are numbered in the order of their first models, so that the most downloaded have small
numbers. Files are packed with Snappy, and the columns that the page reads stand side by side.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.faces.scan.asking import MODEL, ScanQuestion
from weighbridge.faces.scan.dataset import ScanPlan, put, put_json
from weighbridge.faces.scan.packing import unreadable
from weighbridge.faces.scan.query import ScanView
from weighbridge.machines.accelerators.names import find
from weighbridge.memory.report.columns import FlatColumn

SCHEMA = "weighbridge.registry/1"
LIST, CARD = "registry.json", "README.md"
MODELS_FILE, KEYS_FILE, ANSWERS_FILE = "models.parquet", "keys.parquet", "answers.parquet"
NAMES_FILE = "names.parquet"  # the only file that may be missing
GROUP = 1 << 15  # models per row group: the page shows one group first
PAGE = 1 << 13  # bytes of a page in a models column, read for one row
REFUSED = "refused"  # counted in place of a null `fits`


def _parse_columns(table: str) -> tuple[FlatColumn, ...]:
    """Return columns from lines of text, each with the column's name, its kind and its meaning."""
    lines = (line.split(None, 2) for line in table.strip().splitlines())
    return tuple(
        FlatColumn(name, "text" if kind == "text" else "whole", what) for name, kind, what in lines
    )


MODELS = _parse_columns("""
id        text  the model's name in its registry
downloads whole as the registry counts them
key       whole the number of its key; null where its config was not read
unread    text  why its config was not read
sha       text  its revision there, or the hash of its config
""")
KEYS = _parse_columns("""
number     whole what `models` and `answers` call it; that of its row
parameters whole of the class that the config names
models     whole how many have it
reason     text  why it is answered nothing; null where its config is read
key        text  `weighbridge.key` of the config
""")
SMALLEST = "smallest/"  # begins the columns of keys that name, for a question, the smallest card
ANSWERS = _parse_columns("""
key            whole the number of the config that was asked
fits           text  yes, no or unknown; null where no card was named, or no answer is
need_low       whole bytes that we would be surprised to see less of
need           whole bytes of the fullest card, as nvidia-smi shows them
need_high      whole bytes that we would be surprised to see more of
reason         text  why there is no answer, without names and numbers
kv_per_token   whole bytes of the cache for each token of a request
basis          text  what most bytes of `need` rest on: read, computed, ... assumed
question       text  its name in `registry.json`
task           text  load, infer or train
engine         text  the program that loads, serves or trains it
engine_version text  its release, whose rules were used
method         text  of training: full, lora, qlora, dora
format         text  the format that weights are packed in; null: as they are
context        whole tokens of a request, or of a row that is trained on
gpu            text  the card, by its id of `weighbridge gpus`
count          whole how many such cards
usable         whole bytes of one card that can be had
rules          text  a hash of the rules that were used
""")
COMMON = (
    "engine",
    "engine_version",
    "context",
    "usable",
    "rules",
)  # columns whose value all answers to a question may share
ORDERED = f"""
select m.id, m.downloads, m.key, coalesce(m.unread, a.reason) as unread, m.sha
from models m left join (select * from answers where question = '{MODEL}') a using (key)
order by m.downloads desc nulls last, a.parameters desc nulls last, m.id
"""
OF_MODELS = f"select key, parameters, reason from answers where question = '{MODEL}'"
FITTING = """
select key, first(question order by usable * coalesce("count", 1), question) as smallest
from answers where fits = 'yes' and list_contains(?, question) group by key
"""


class PublishedFolder(NamedTuple):
    """A published dataset: the content of registry.json, and the bytes of all files."""

    told: Mapping[str, Any]
    nbytes: int


def publish(out: Path, plan: ScanPlan, folder: Path) -> PublishedFolder:
    """Write the answers of a dataset into a folder for readers, and return it; equal datasets give
    equal bytes.

    Args:
        out: the dataset; parts that are not answered yet have no rows.
        folder: is empty, or holds an earlier publication.

    Raises:
        weighbridge.WeighbridgeError: a dataset that cannot be read, or a folder with other files.
    """
    import pyarrow.compute as arrow

    _check_folder(folder)
    wrong = unreadable((out, plan))
    if wrong is not None:
        raise wrong
    view = ScanView(out, plan)
    models = view.table(ORDERED)
    keys = arrow.drop_null(models["key"].unique())
    asked = {q.name: _question_as_json(q) for q in plan.questions}
    labels = tuple(dict.fromkeys(str(one["label"]) for one in asked.values()))
    tallies: dict[str, Any] = {}
    files = {
        MODELS_FILE: _parquet_bytes(_with_key_numbers(models, keys), MODELS, GROUP),
        KEYS_FILE: _parquet_bytes(
            _keys_table(view, models, keys, asked), _key_columns(labels), None
        ),
        ANSWERS_FILE: _answers_parquet(view, plan, keys, tallies),
    }
    if len(models) > GROUP:
        files[NAMES_FILE] = _parquet_bytes(names_of(models["id"]), NAMES, GROUP)
    about = {
        "schema": SCHEMA,
        "weighbridge": __version__,
        "source": plan.source,
        "counts": dict(plan.counts),
        "questions": [{**one, **tallies[name]} for name, one in asked.items()],
        "files": {name: _file_facts(content) for name, content in files.items()},
    }
    (folder / NAMES_FILE).unlink(missing_ok=True)
    for name, content in files.items():
        put(folder / name, content)
    put_json(folder / LIST, about)  # written last: the files that it lists exist
    return PublishedFolder(about, sum(len(content) for content in files.values()))


def _check_folder(folder: Path) -> None:
    """Check that a folder holds only files of an earlier publication, or none; raise UsageError if
    not."""
    if folder.is_file():
        raise UsageError(sentence("site.is_file", folder=str(folder)))
    tables = (MODELS_FILE, KEYS_FILE, ANSWERS_FILE, NAMES_FILE)
    known = {LIST, CARD, *tables, ".git", ".gitattributes"}
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and (LIST not in names or names - known):
        raise UsageError(sentence("scan.others", folder=str(folder)))


def _question_as_json(question: ScanQuestion) -> dict[str, Any]:
    """Return a question as the page reads it: its name, its name without the card, task, settings
    and card."""
    typed = question.settings.get("gpu")
    card = None if typed is None else _card_as_json(str(typed))
    return {
        "name": question.name,
        "label": question.label,
        "task": question.task,
        "settings": dict(question.settings),
        "card": card,
    }


def _card_as_json(typed: str) -> dict[str, Any]:
    try:
        part = find(typed)
    except WeighbridgeError:  # the plan of another release may name a card that this one lacks
        return {"typed": typed, "id": typed, "name": typed, "count": 1}
    return {"typed": typed, "id": part.part.id, "name": part.part.name, "count": part.count}


def _with_key_numbers(table: Any, keys: Any) -> Any:
    """Return a table with the numbers of its keys in place of the keys."""
    import pyarrow.compute as arrow

    numbers = arrow.index_in(table["key"], value_set=keys)
    return table.set_column(table.schema.get_field_index("key"), "key", numbers)


def _keys_table(
    view: ScanView, models: Any, keys: Any, asked: Mapping[str, Mapping[str, Any]]
) -> Any:
    """Return a table with a row per key: its number, parameters and models, and the smallest cards
    that fit."""
    counts = Counter(models["key"].to_pylist())
    known = {row["key"]: row for row in view.table(OF_MODELS).to_pylist()}
    of_label: dict[str, list[str]] = {}
    for name, one in asked.items():
        of_label.setdefault(str(one["label"]), []).append(name)
    for label, names in of_label.items():
        for row in view.table(FITTING, [names]).to_pylist():
            card = asked[row["smallest"]]["card"]
            known[row["key"]][SMALLEST + label] = card and card["typed"]
    rows = [
        {**known.get(key, {}), "key": key, "number": number, "models": counts[key]}
        for number, key in enumerate(keys.to_pylist())
    ]
    return _arrow_table(rows, _key_columns(tuple(of_label)))


def _key_columns(labels: Sequence[str]) -> tuple[FlatColumn, ...]:
    smallest = (
        FlatColumn(SMALLEST + label, "text", "the smallest card that fits") for label in labels
    )
    return (*KEYS[:4], *smallest, *KEYS[4:])


def _arrow_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[FlatColumn]) -> Any:
    import pyarrow

    values = {c.name: [row.get(c.name) for row in rows] for c in columns}
    return pyarrow.table(values, schema=_schema(columns))


def _schema(columns: Sequence[FlatColumn]) -> Any:
    """Return the Arrow schema of published columns: numbers of keys and counts have 32 bits."""
    import pyarrow

    short = ("key", "number", "models", "model", "count")
    kinds = {"text": pyarrow.string(), "whole": pyarrow.int64()}
    fields = [
        (c.name, pyarrow.int32() if c.kind == "whole" and c.name in short else kinds[c.kind])
        for c in columns
    ]
    return pyarrow.schema(fields).with_metadata({"schema": SCHEMA})


def _writer(to: BytesIO, columns: Sequence[FlatColumn], *, paged: bool = False) -> Any:
    from pyarrow import parquet

    text = [c.name for c in columns if c.kind == "text" and c.name not in ("id", "sha")]
    whole = {c.name: "DELTA_BINARY_PACKED" for c in columns if c.kind == "whole"}
    return parquet.ParquetWriter(
        to,
        _schema(columns),
        compression="snappy",
        use_dictionary=text,
        column_encoding=whole,
        write_statistics=["word"] if columns is NAMES else False,
        write_page_index=paged,  # readers fetch single rows
        data_page_size=PAGE if paged else None,
        store_schema=False,
    )


def _parquet_bytes(table: Any, columns: Sequence[FlatColumn], group: int | None) -> bytes:
    written = BytesIO()
    paged = columns is MODELS and len(table) > GROUP
    with _writer(written, columns, paged=paged) as file:
        picked = table.select([c.name for c in columns]).cast(_schema(columns))
        file.write_table(picked, row_group_size=group or max(1, len(table)))
    return written.getvalue()


def _answers_parquet(view: ScanView, plan: ScanPlan, keys: Any, tallies: dict[str, Any]) -> bytes:
    """Return the answers as Parquet, one row group per question in the plan's order. Adds to
    `tallies`, by question, the values that all its answers share, and the counts of its
    verdicts."""
    names = ", ".join(f'"{c.name}"' for c in ANSWERS)
    written = BytesIO()
    with _writer(written, ANSWERS) as file:
        for question in plan.questions:
            table = view.table(f"select {names} from answers where question = ?", [question.name])
            rows = _with_key_numbers(table, keys).sort_by("key").cast(_schema(ANSWERS))
            file.write_table(rows, row_group_size=max(1, len(rows)))
            tallies[question.name] = _tally(rows)
    return written.getvalue()


def _tally(rows: Any) -> dict[str, Any]:
    """Return the facts that the page shows of a question before it has read its answers: shared
    values, rows, and verdict -> count."""
    fits = Counter(fit or REFUSED for fit in rows["fits"].to_pylist())
    common = {name: _only_value(rows[name].drop_null().unique()) for name in COMMON}
    return {**common, "rows": len(rows), "verdicts": dict(sorted(fits.items()))}


def _only_value(values: Any) -> Any:
    """Return the only value; None if there are several or none."""
    return values[0].as_py() if len(values) == 1 else None


def _file_facts(content: bytes) -> dict[str, Any]:
    """Return the facts that a reader needs about a Parquet file: its `bytes`, the bytes of its
    `footer`, and its `sha256`."""
    footer = int.from_bytes(content[-8:-4], "little") + 8
    return {"bytes": len(content), "footer": footer, "sha256": sha256(content).hexdigest()}


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) for each file of a published folder that the page reads."""
    for name in (LIST, MODELS_FILE, KEYS_FILE, ANSWERS_FILE):
        yield name, folder / name


# The words of all names, sorted, so that a typed name finds any of millions of models by range
# requests. A word is a run of letters and digits, in lower case; it is found by how it begins.
# Models are numbered by row, so of one word the most downloaded come first

NAMES = (
    FlatColumn("word", "text", "of a model's name, in small letters"),
    FlatColumn("model", "whole", "the row of `models` that has it in its name, from 0"),
)
SORTED = r"""
select distinct unnest(regexp_extract_all(lower(id), '[\p{L}\p{N}]+')) as word, model
from named order by word, model
"""


def names_of(ids: Any) -> Any:
    """Return an Arrow table with a row per word of each name; `ids` is an Arrow column of names."""
    import duckdb
    import pyarrow

    named = pyarrow.table({"id": ids, "model": pyarrow.array(range(len(ids)), pyarrow.int32())})
    with duckdb.connect() as connection:
        connection.register("named", named)
        return connection.sql(SORTED).to_arrow_table()
