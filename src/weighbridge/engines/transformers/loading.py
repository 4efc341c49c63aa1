"""transformers as the engine: which dtype it loads, in which order it places tensors, what else.

Two rules changed between 4.x and 5.x (transformers modeling_utils.py, `from_pretrained`):

    default dtype   4: float32 whatever the checkpoint says; 5: the config's, else the checkpoint's
    device_map      5 (and 4.50 on): `caching_allocator_warmup` first reserves one block of the
                    model's size, so segments of 20 MiB do not appear

Without a device_map the model is built on the CPU and moved by `.to("cuda")`, which visits the
children of a module before its own parameters, then its buffers (torch nn/modules/module.py,
`Module._apply`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from weighbridge.errors import UsageError

NEWEST = "5.23.0"  # the version whose sources our rules were read from
MAJORS = range(4, 6)  # versions that rules are known of

T = TypeVar("T")


def version(text: str | None) -> tuple[int, int]:
    """(major, minor) of "4.40", "5.23.0"; the newest known one when `text` is None."""
    found = re.fullmatch(r"v?(\d+)(?:\.(\d+))?(?:\.\S*)?", (text or NEWEST).strip())
    if not found:
        raise UsageError(f"--engine-version {text!r} is not a version; write it as 5.23 or 4.40")
    number = (int(found[1]), int(found[2] or 0))
    if number[0] not in MAJORS:
        raise UsageError(f"--engine-version {text!r}: rules are known for transformers 4.x and 5.x")
    return number


def placement_order(items: Iterable[tuple[str, T]]) -> list[T]:
    """`items` (module path of the owner, value) in the order in which `.to(device)` visits them.

    Children come before their parent, siblings in order of first appearance.
    """
    values: dict[str, list[T]] = {"": []}  # by module
    children: defaultdict[str, list[str]] = defaultdict(list)
    for path, value in items:
        found = values.get(path)
        if found is None:
            found = values[path] = []
            _join(path, values, children)
        found.append(value)
    return [value for path in _children_first(children) for value in values[path]]


def _join(path: str, values: dict[str, list[T]], children: defaultdict[str, list[str]]) -> None:
    """A new module is a child of the one above it, which may be new as well."""
    while True:
        parent = path.rpartition(".")[0]
        children[parent].append(path)
        if parent in values:
            return
        values[parent] = []
        path = parent


def _children_first(children: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield modules, children before parents, without recursion: a stranger's names may be nested a
    thousand deep."""
    parents_first, stack = [], [""]
    while stack:
        path = stack.pop()
        parents_first.append(path)
        stack += children.get(path, ())
    return reversed(parents_first)
