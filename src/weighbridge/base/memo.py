"""Values that were made of a record before, for the next question about it.

    memo(model, ("host", dtype), make)    what `make()` gave for this very model and these facts

A model is asked many times: by a search, by a page, by lines of `weighbridge run`. What does not
depend on the question is made once. It lives in the record that it was made of and goes with it, so
nothing has to be told when a model is no longer asked about, and an equal record has none of it.
"""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

Made = TypeVar("Made")
MOST = 64  # answers about one record: the one that was not asked for the longest time goes
_PLACE = "_memos"


class _Memos(dict[tuple[Hashable, ...], Any]):
    """Cached results of one record. A copy of the record, also in another process, has none."""

    def __reduce__(self) -> tuple[type["_Memos"], tuple[()]]:
        return _Memos, ()


_NOTHING = object()
_TURN = Lock()  # held while the cache changes; what two threads want is made twice


def memo(owner: object, facts: tuple[Hashable, ...], make: Callable[[], Made]) -> Made:
    """Return the cached result for this record and these facts, or make it. `make` must depend on
    nothing else. The owner is a record without slots."""
    memos: _Memos = vars(owner).setdefault(_PLACE, _Memos())
    value: Any = memos.get(facts, _NOTHING)
    if value is _NOTHING:
        value = make()
    with _TURN:
        memos.pop(facts, None)
        memos[facts] = value  # the last in order: asked for just now
        if len(memos) > MOST:
            del memos[next(iter(memos))]
    return value  # type: ignore[no-any-return]
