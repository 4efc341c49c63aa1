"""What a script's names stand for where nobody says otherwise, in the syntax tree: nothing is run.

    MODEL = os.environ.get("MODEL", "org/name")       MODEL = "org/name"
    parser.add_argument("--bs", default=8); a.bs      8
    @dataclass ... bs: int = 8; settings.bs           8
    config = {"bs": 8}; config["bs"]                  8
    rank = 8; ... lora_alpha=rank * 2                 16

What has no default stays unknown.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from operator import add, mul, sub
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.engines.transformers.dialect import called, value_of, with_literals

OF_ENVIRONMENT = ("os.environ.get", "environ.get", "os.getenv", "getenv")
SUMS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Mult: mul,
    ast.Add: add,
    ast.Sub: sub,
}
COUNTED = "counted"  # marks a constant that is not in the text
MOST_COUNTED = 1 << 31
DEFAULTED = "line {line}: {name} is taken at its default, {value}"


class Defaulted(NamedTuple):
    """A script's syntax tree with its defaults filled in, and notes on these."""

    tree: ast.AST
    notes: tuple[str, ...]


class _Places(ast.NodeTransformer):
    """Replaces nodes by their defaults."""

    def __init__(self, fields: Mapping[str, ast.expr], imported: frozenset[str]) -> None:
        self.fields, self.imported = fields, imported
        self.notes: dict[str, None] = {}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        default = node.args[1] if len(node.args) == 2 else None
        if isinstance(default, ast.Constant) and ast.unparse(node.func) in OF_ENVIRONMENT:
            return self._taken(node, ast.unparse(node.args[0]), default)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        base = node.value
        if not isinstance(base, ast.Name) or base.id in self.imported or base.id == "self":
            return self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            return node
        if node.attr in self.fields:
            return self._taken(node, ast.unparse(node), self.fields[node.attr])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = value_of(node.left), value_of(node.right)
        counts = type(node.op) in SUMS and type(left) is type(right) is int
        if counts and max(abs(left), abs(right)) < MOST_COUNTED:
            counted = ast.Constant(SUMS[type(node.op)](left, right), kind=COUNTED)
            return ast.copy_location(counted, node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        mapping, key = value_of(node.value), value_of(node.slice)
        if isinstance(node.value, ast.Dict) and isinstance(mapping, dict) and key in mapping:
            return ast.copy_location(ast.Constant(mapping[key]), node)
        return node

    def _taken(self, node: ast.expr, name: str, value: ast.expr) -> ast.expr:
        note = DEFAULTED.format(line=node.lineno, name=name, value=ast.unparse(value))
        self.notes[note] = None
        return ast.copy_location(ast.Constant(value_of(value)), node)


def defaulted(text: str) -> Defaulted:
    """Return the tree of a script with literals for names and defaults."""
    tree = ast.parse(text)
    places = _Places(dict(_fields(tree)), imported(tree))
    tree = with_literals(places.visit(tree))  # type: ignore[assignment]
    return Defaulted(places.visit(tree), tuple(places.notes))


def imported(tree: ast.AST) -> frozenset[str]:
    """Return the names that a script imports, whose attributes are not set by the script."""
    return frozenset(
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    )


def _fields(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, default) of arguments and dataclass fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == "add_argument":
            yield from _argument(node)
        elif isinstance(node, ast.ClassDef) and any(map(_of_data, node.decorator_list)):
            for each in (one for one in node.body if isinstance(one, ast.AnnAssign)):
                value = _default(each)
                if value is not None and isinstance(each.target, ast.Name):
                    yield each.target.id, value


def _of_data(node: ast.expr) -> bool:
    return "dataclass" in ast.unparse(node)


def _default(field: ast.AnnAssign) -> ast.expr | None:
    """Return the literal default of a field, also in `field(default=x)`; None without one."""
    value: ast.expr | None = field.value
    if isinstance(value, ast.Call):
        value = next((word.value for word in value.keywords if word.arg == "default"), None)
    return value if isinstance(value, ast.Constant) else None


def _argument(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, literal default) of an argument; False for a switch without one."""
    words: dict[str | None, Any] = {word.arg: word.value for word in call.keywords}
    names = [str(value_of(arg)) for arg in call.args if isinstance(arg, ast.Constant)]
    long = next((name for name in names if name.startswith("--")), next(iter(names), ""))
    name = str(value_of(words["dest"])) if "dest" in words else long.lstrip("-").replace("-", "_")
    action = value_of(words["action"]) if "action" in words else None
    default = words.get("default")
    if default is None and action == "store_true":
        default = ast.Constant(False)
    if name and isinstance(default, ast.Constant):
        yield name, default
