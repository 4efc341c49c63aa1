"""What was made of a model before, for the next question about it.

A search over contexts, and a line of `weighbridge run`, ask the same model again and again. The key
is which objects an answer was made of, and plain facts beside them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")
KEPT = 64  # answers

_RECENT: OrderedDict[tuple[Hashable, ...], tuple[tuple[object, ...], Any]] = OrderedDict()


def kept(owners: tuple[object, ...], facts: tuple[Hashable, ...], make: Callable[[], Made]) -> Made:
    """What was made of these very objects before. They are kept with it, so that no other object
    can take their place in memory."""
    key = (*map(id, owners), *facts)
    if key not in _RECENT:
        _RECENT[key] = (owners, make())
        while len(_RECENT) > KEPT:
            _RECENT.popitem(last=False)
    _RECENT.move_to_end(key)
    made: Made = _RECENT[key][1]
    return made
