"""Tells whether one place alone holds a tensor, by CPython's count of references.

The count includes the reference that the call itself makes. Those of local variables and arguments
are counted up to Python 3.13 and borrowed, so not counted, from 3.14 on. Every version counts an
item of a list or a tuple, and an attribute, as one for its place and one for the call: so these
alone are asked after.

Source: Python 3.14, "What's New", "Other language changes": the interpreter avoids some changes of
reference counts when it loads objects onto the operand stack.
"""

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

PLACE_AND_CALL = 2


def shared(places: Sequence[Any], at: int) -> bool:
    """Say whether anything but `places[at]` refers to the object that stands there."""
    return getrefcount(places[at]) > PLACE_AND_CALL


def holders(t: Any) -> int:
    """Count the tensors, views and others that refer to the storage of the tensor `t`."""
    return getrefcount(t.storage) - 1
