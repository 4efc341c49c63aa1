"""Code as a tree, read once in a process: many tests look at the whole package."""

import ast
import gc
from collections import defaultdict
from functools import cache
from itertools import chain


@cache
def parsed(text):
    """Parse a module. The tree is kept, and the collector of garbage looks at it no more."""
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
        gc.freeze()


@cache
def _by_kind(text):
    found = defaultdict(list)
    for node in ast.walk(parsed(text)):
        found[type(node)].append(node)
    return found


def nodes(text, *kinds):
    """Nodes of these kinds in a module, one kind after the other; the module is walked once."""
    found = _by_kind(text)
    return chain.from_iterable(found.get(kind, ()) for kind in kinds)
