"""The words of all names, sorted: who types a name finds any of millions of models by ranges.

A word is letters and digits that stand together, in small letters; it is found by how it begins.
The numbers of models are their rows, so of one word the most downloaded come first.
"""

from typing import Any

from weighbridge.memory.report.columns import FlatColumn

NAMES = (
    FlatColumn("word", "text", "of a model's name, in small letters"),
    FlatColumn("model", "whole", "the row of `models` that has it in its name, from 0"),
)
SORTED = r"""
select distinct unnest(regexp_extract_all(lower(id), '[\p{L}\p{N}]+')) as word, model
from named order by word, model
"""


def names_of(ids: Any) -> Any:
    """Return a row for each word of each name; `ids` is a column of Arrow's."""
    import duckdb
    import pyarrow

    named = pyarrow.table({"id": ids, "model": pyarrow.array(range(len(ids)), pyarrow.int32())})
    with duckdb.connect() as connection:
        connection.register("named", named)
        return connection.sql(SORTED).to_arrow_table()
