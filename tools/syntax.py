"""Syntax trees of modules, each parsed and walked once per process: many checks look at all of the
package."""

import ast
import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain


@cache
def parse(text: str) -> ast.Module:
    """Return the tree of a module. It is kept, and the garbage collector never looks at it."""
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
        gc.freeze()


@cache
def _by_kind(text: str) -> Mapping[type[ast.AST], list[ast.AST]]:
    found: dict[type[ast.AST], list[ast.AST]] = defaultdict(list)
    for node in ast.walk(parse(text)):
        found[type(node)].append(node)
    return found


def nodes(text: str, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of these kinds in a module, one kind after the other; without kinds, all."""
    found = _by_kind(text)
    return chain.from_iterable(found.get(kind, ()) for kind in kinds or found)


def imports(text: str, *, types: bool = True) -> Iterator[tuple[str, str]]:
    """Yield what a module imports, wherever in it: (a.b, c) of `from a.b import c`, (a.b, "") of
    `import a.b`. Without types, not what stands below `if TYPE_CHECKING`."""
    for_types = {
        inner
        for node in (() if types else nodes(text, ast.If))
        if ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes(text, ast.ImportFrom, ast.Import):
        if node not in for_types:
            names = [alias.name for alias in node.names]
            is_from = isinstance(node, ast.ImportFrom)
            yield from ((node.module or "", name) if is_from else (name, "") for name in names)


def count_nodes(text: str) -> int:
    """Return the number of nodes in the tree of a module."""
    return sum(map(len, _by_kind(text).values()))
