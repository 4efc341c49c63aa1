"""Parameters by their paths, and the linears that they make.

layer = Module(params, "model.layers.0")
layer.linear(m, x, "mlp.up_proj")       # with its bias, its adapter, in its format
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.tensors import LeafTensor, Tensor

# Replacement of a linear: quantized weights, an adapter around it, or its shard.
Wrap = Callable[[Machine, Tensor], Tensor]


def below(name: str, paths: Container[str]) -> str:
    """Return the path out of `paths` (each ends with a dot) that `name` is below; "" for none."""
    end = name.find(".")
    while end >= 0:
        if name[: end + 1] in paths:
            return name[: end + 1]
        end = name.find(".", end + 1)
    return ""


def each_below(names: Iterable[str], paths: Container[str]) -> Iterator[str]:
    """Yield the result of `below` for each name; neighbouring names mostly share it."""
    path = ""
    for name in names:
        if not path or not name.startswith(path):
            path = below(name, paths)
        yield path


class ParameterSpec(NamedTuple):
    """A parameter of the class before it is in memory: its name, shape, kind and dtype."""

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str = ""  # "": the model's own dtype
    role: str = ""  # as a Param's


class Module:
    """The parameters and linears below one path. Names are the checkpoint's, without ".weight" and
    ".bias"."""

    __slots__ = ("params", "path", "wraps")

    def __init__(
        self, params: Mapping[str, LeafTensor], wraps: Mapping[str, Wrap], path: str = ""
    ) -> None:
        self.params = params
        self.wraps = wraps
        self.path = f"{path}." if path and not path.endswith(".") else path

    def at(self, name: str) -> "Module":
        return Module(self.params, self.wraps, self.path + name)

    def weight(self, name: str) -> LeafTensor:
        return self._param(f"{self.path}{name}.weight")

    def bias(self, name: str) -> LeafTensor | None:
        return self.params.get(f"{self.path}{name}.bias")

    def bare(self, name: str) -> LeafTensor:
        """Return a parameter of this module itself, not of a submodule."""
        return self._param(self.path + name)

    def _param(self, name: str) -> LeafTensor:
        if name not in self.params:
            raise UnsupportedError(sentence("step_needs", name=name))
        return self.params[name]

    def stacked(self, m: Machine, name: str) -> Tensor:
        """Return a parameter of this module as its operators use it: with its adapter, if it has
        one."""
        wrap = self._wrap(m, name)
        return self.bare(name) if wrap is None else wrap(m, self.bare(name))

    def _wrap(self, m: Machine, name: str) -> Wrap | None:
        """Return the replacement of a linear, None without one; if adapters are off, the one below
        the adapter."""
        wrap = self.wraps.get(self.path + name)
        return wrap if m.adapted else getattr(wrap, "base", wrap)

    def has(self, name: str) -> bool:
        full = self.path + name
        return f"{full}.weight" in self.params or full in self.wraps or full in self.params

    def first(self, *names: str) -> str:
        """Return the first of `names` that exists in the module; "" for none."""
        return next((name for name in names if self.has(name)), "")

    def linear(self, m: Machine, x: Tensor, name: str, kind: str = "product") -> Tensor:
        wrap = self._wrap(m, name)
        if wrap is not None:
            return wrap(m, x)
        return linear(m, x, self.weight(name), self.bias(name), kind=kind)
