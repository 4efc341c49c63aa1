"""The changes of a question, by task."""

from collections.abc import Iterator

from weighbridge.remedies import formats, serving
from weighbridge.remedies.case import Case
from weighbridge.remedies.moves import Move


def moves(case: Case) -> Iterator[Move]:
    """Every single change that is known, nothing pinned among them."""
    if case.task == "infer":
        yield from serving.moves(case)
    elif case.task == "load":
        yield from formats.moves(case)
