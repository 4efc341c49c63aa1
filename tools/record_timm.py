"""Record the trees of all networks of timm: families/timm_names.txt and timm_trees.txt.

    python -m tools.record_timm        needs torch and timm; some five minutes

Each network is built on the meta device, with classes and without. Modules that differ in sizes
alone are written once, with a letter for each size they are called with:

    11 weight:norm=a bias:norm=a running_mean:buffer=a
    40 conv1:13(a,b) bn1:11(b) 1+3:41(b,2*b)

A line is a module: its number, its parameters with their kinds, its buffers with their dtypes, and
its children with the sizes they are called with; "1+3" are three equal children from 1 on.
weighbridge.models.arch.families.timm_nets reads both files.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from weighbridge.models.arch.families.timm_nets import letter

OUT = Path(__file__).parent.parent / "src/weighbridge/models/arch/families"
CLASSES = 1009  # a prime, so that no width of a network equals it
FACTORS = 2, 3, 4, 6, 8  # by which one size of a module may follow from another
Tensor = tuple[str, str, tuple[int, ...]]  # name, kind, shape


class Node(NamedTuple):
    """A module: its form by number, its own sizes in order, and its children."""

    form: int
    sizes: tuple[int, ...]
    children: "tuple[Node, ...]"


class Item(NamedTuple):
    """A tensor or child of a form: its text with "#" for each size, the form of a child or -1."""

    text: str
    child: int


class Forest:
    """The modules of all networks by their form: items, and the nodes of that form."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Item, ...], int] = {}
        self.nodes: dict[int, list[Node]] = {}

    def grow(self, tensors: Sequence[Tensor]) -> Node:
        """Return the node of a module, from its tensors in order."""
        items, sizes = [], []
        inner: dict[str, list[Tensor]] = {}
        for path, kind, shape in tensors:
            name, _, rest = path.partition(".")
            if rest:
                inner.setdefault(name, []).append((rest, kind, shape))
            else:
                items.append(Item(f"{name}:{kind}={','.join('#' * len(shape))}", -1))
                sizes += shape
        children = []
        for first, count, node in _runs([(name, self.grow(each)) for name, each in inner.items()]):
            many = count > 1
            items.append(Item(f"{first}{'+#' if many else ''}:{node.form}", node.form))
            sizes += [count] if many else []
            children.append(node)
        form = self.numbers.setdefault(tuple(items), len(self.numbers))
        node = Node(form, tuple(sizes), tuple(children))
        self.nodes.setdefault(form, []).append(node)
        return node


def _runs(children: Sequence[tuple[str, Node]]) -> Iterator[tuple[str, int, Node]]:
    """Yield (first name, count, node) of children; equal ones with numbers in a row are one run."""
    start = 0
    while start < len(children):
        name, node = children[start]
        count = 1
        while (
            name.isdigit()
            and start + count < len(children)
            and children[start + count] == (str(int(name) + count), node)
        ):
            count += 1
        yield name, count, node
        start += count


class Sizes:
    """The sizes of all modules of one form as texts: a number, C, or a letter (an argument)."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.arguments: list[int] = []  # columns that a module is called with
        self.texts = [self._text(column, rows) for column in range(len(rows[0]))]

    def _text(self, column: int, rows: Sequence[Sequence[int]]) -> str:
        values = [row[column] for row in rows]
        if len({*values}) == 1:
            return "C" if values[0] == CLASSES else str(values[0])
        for n, argument in enumerate(self.arguments):
            others = [row[argument] for row in rows]
            if others == values:
                return letter(n)
            for factor in FACTORS:
                if [factor * other for other in others] == values:
                    return f"{factor}*{letter(n)}"
                if [factor * value for value in values] == others:
                    return f"{letter(n)}/{factor}"
        self.arguments.append(column)
        return letter(len(self.arguments) - 1)


class Folded:
    """The text of a forest. Forms are numbered after those that they are made of."""

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        self.sizes: dict[int, Sizes] = {}
        for form, nodes in sorted(forest.nodes.items()):
            self.sizes[form] = Sizes([self._row(node) for node in nodes])

    def _row(self, node: Node) -> list[int]:
        """Return all sizes of a module: its own, and those that its children are called with."""
        return [*node.sizes, *(n for child in node.children for n in self._arguments(child))]

    def _arguments(self, node: Node) -> list[int]:
        row = self._row(node)
        return [row[column] for column in self.sizes[node.form].arguments]

    def call(self, node: Node) -> str:
        """Return a module with the sizes that it is called with."""
        sizes = ("C" if n == CLASSES else str(n) for n in self._arguments(node))
        return f"{node.form}({','.join(sizes)})"

    def lines(self) -> Iterator[str]:
        """Yield a line for each form."""
        for items, form in self.forest.numbers.items():
            texts = self.sizes[form].texts
            own = sum(item.text.count("#") for item in items)
            sizes, arguments = iter(texts[:own]), iter(texts[own:])
            yield " ".join([str(form), *(self._filled(item, sizes, arguments) for item in items)])

    def _filled(self, item: Item, sizes: Iterator[str], arguments: Iterator[str]) -> str:
        first, *rest = item.text.split("#")
        text = first + "".join(next(sizes) + part for part in rest)
        if item.child < 0:
            return text
        count = len(self.sizes[item.child].arguments)
        return f"{text}({','.join(next(arguments) for _ in range(count))})"


def tensors_of(module: Any) -> list[Tensor]:
    """Return (name, kind, shape) of the parameters and buffers of a torch module. The kind of a
    buffer is its dtype ("buffer" for float32), with "!" if no checkpoint has it."""
    from weighbridge.models.arch.torch_modules import from_module

    plan = from_module(module)
    found: list[Tensor] = [(p.name, p.kind, p.shape) for p in plan.params if not p.tied]
    for one in plan.buffers:
        dtype = "buffer" if one.dtype == "float32" else one.dtype
        found.append((one.name, f"{dtype}{'' if one.persistent else '!'}", one.shape))
    return found


def skip_initializers() -> None:
    """Let every function that fills weights return at once."""
    import torch
    from timm.layers import weight_init

    for room in (torch.nn.init, weight_init):
        for name in dir(room):
            if name.endswith("_") and not name.startswith("_"):
                setattr(room, name, lambda tensor, *_, **__: tensor)


class Network(NamedTuple):
    """An architecture of timm: its class, its trees, and the classes of each tag."""

    cls: str
    tree: Node
    headless: Node | None  # None if it is the tree without the tensors whose shape has the classes
    tags: Mapping[str, int]


def build(name: str, forest: Forest) -> tuple[str, Node, Node | None]:
    """Return a network's class, and its trees with classes and without."""
    import timm
    import torch

    with torch.device("meta"):
        module = timm.create_model(name, num_classes=CLASSES)
        bare = tensors_of(timm.create_model(name, num_classes=0))
    whole = tensors_of(module)
    tree = forest.grow(whole)
    same = sorted(one for one in whole if CLASSES not in one[2]) == sorted(bare)
    return type(module).__name__, tree, None if same else forest.grow(bare)


def networks(forest: Forest) -> Iterator[tuple[str, Network]]:
    """Yield every architecture of timm."""
    import timm

    tags: dict[str, dict[str, int]] = {}
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        tags.setdefault(name, {})[tag] = timm.models.get_pretrained_cfg(full).num_classes
    for name in timm.list_models():
        default = timm.models.get_pretrained_cfg(name)
        classes = {"": default.num_classes if default else 1000, **tags.get(name, {})}
        yield name, Network(*build(name, forest), classes)


def main() -> None:
    skip_initializers()
    forest = Forest()
    found = dict(networks(forest))
    folded = Folded(forest)
    names = [
        " ".join(
            (
                name,
                one.cls,
                folded.call(one.tree),
                folded.call(one.headless) if one.headless else "-",
                *(f"{tag}={count}" for tag, count in one.tags.items()),
            )
        )
        for name, one in found.items()
    ]
    for file, lines in (("timm_names", names), ("timm_trees", [*folded.lines()])):
        (OUT / f"{file}.txt").write_text("\n".join([*lines, ""]))
        print(file, len(lines), "lines")


if __name__ == "__main__":
    main()
