"""The vocabulary of a family: parameters, buffers, and the small modules that they come from.

Letters in the family files, as in the Scaling Book: V vocabulary, D model (hidden size), F
feed-forward, L layers, N heads, K key-value heads, H head size, E experts.

A parameter has the name that checkpoints give it and the kind of module that holds it, because
quantization looks at the kind: bitsandbytes replaces `linear` (and transformers' own transposed
`conv1d`), never a bare 3-D `experts` parameter.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, Literal, overload

from weighbridge.base.dtypes import FLOAT16, FLOAT32, TORCH, DType
from weighbridge.base.records import NamedTuple, dataclass, field, frozen_record
from weighbridge.models.arch.config import Config
from weighbridge.models.tensors import EXPERTS

if TYPE_CHECKING:
    from weighbridge.models.arch.decoder import Decoder

MAX_TENSORS = 500_000  # Kimi-K2 has about 200,000; a config that asks for more is hostile

ParamKind = Literal[
    "linear",  # weight of nn.Linear, [out, in]
    "conv1d",  # weight of transformers' Conv1D, [in, out]: GPT-2
    "expert",  # weight of one routed expert's Linear, [out, in]; transformers 5 stacks them
    "experts",  # all routed experts' weights as the file has them in one 3-D parameter
    "router",  # weight that scores the experts
    "embedding",
    "norm",  # weights and biases of norms
    "bias",
    "conv",  # weight of a convolution
    "other",  # a bare parameter
    "flat",  # a stored weight with a known count of elements and no known shape
]


class Param(NamedTuple):
    """One parameter of a class, under its checkpoint name."""

    name: str
    shape: tuple[int, ...]
    kind: ParamKind = "linear"
    dtype: str = ""  # "": the model's dtype; else the dtype in which the class keeps it (`held`)
    tied: str = ""  # name of the parameter that owns the storage; "" if this one does
    routed: tuple[int, int] = (1, 1)  # (k, E): a token uses k of E experts
    copies: int = 1  # number of experts with this parameter; the first stands for all
    role: str = ""  # role (roles.py) if the builder sets it; else the name decides

    @property
    def numel(self) -> int:
        return prod(self.shape)


class Buffer(NamedTuple):
    """A tensor that a module holds but does not train. Most buffers are not in the checkpoint."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # "" follows the model's dtype
    persistent: bool = False
    until: int | None = None  # first major version of transformers without it


@dataclass(frozen=True)  # not slotted: it keeps what it has computed
class CountedParams(Sequence[Param]):
    """Parameters in checkpoint order; equal experts of a layer are stored as the first one with a
    count."""

    counted: tuple[Param, ...]

    def __iter__(self) -> Iterator[Param]:
        return told(self.counted)

    def __len__(self) -> int:
        return sum(p.copies for p in self.counted)

    @overload
    def __getitem__(self, index: int) -> Param: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Param]: ...
    def __getitem__(self, index: int | slice) -> Param | Sequence[Param]:
        return self._all[index]

    @cached_property
    def _all(self) -> tuple[Param, ...]:
        return tuple(self)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Blueprint:
    """All tensors of one class. `blocks`: patterns of checkpoint names ("model.layers.*") of the
    modules that device_map="auto" never splits."""

    cls: str
    params: Sequence[Param]
    buffers: tuple[Buffer, ...] = ()
    blocks: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()  # (prefix of checkpoint names, label of the part)
    tree: "Decoder | None" = None  # the module tree behind the params, if the family has one

    @property
    def counted(self) -> tuple[Param, ...]:
        """Return `params`, in which the equal experts of a layer are the first one with a count."""
        return self.params.counted if isinstance(self.params, CountedParams) else tuple(self.params)

    @cached_property
    def parameters(self) -> int:
        return sum([prod(p.shape) * p.copies for p in self.counted if not p.tied])

    @cached_property
    def experts(self) -> int:
        """Return the number of elements of all routed experts that are stored one by one."""
        return sum(p.numel * p.copies for p in self.counted if p.kind == "expert")

    def distinct(self) -> tuple[tuple[Param, int], ...]:
        """Return the untied parameters, each with its number of copies.

        The routed experts of one layer differ only in their number, so the first stands for all: a
        model of 90,000 tensors has 1,500 different ones.
        """
        return self._distinct

    @cached_property
    def _distinct(self) -> tuple[tuple[Param, int], ...]:
        counts: dict[tuple[str, tuple[int, ...]], int] = {}
        first: dict[tuple[str, tuple[int, ...]], Param] = {}
        for p in self.counted:
            if not p.tied:
                key = (_unnumbered(p), p.shape)
                counts[key] = counts.get(key, 0) + p.copies
                first.setdefault(key, p if p.copies == 1 else p._replace(copies=1))
        return tuple((p, counts[key]) for key, p in first.items())

    def part(self, name: str) -> str:
        """Return the label of the part ("vision tower") that holds the tensor `name`, by its
        longest prefix in `parts`."""
        for prefix, label in self._longest_first:
            if name.startswith(prefix):
                return label
        return "language model"

    @cached_property
    def _longest_first(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self.parts, key=lambda p: -len(p[0])))


def expert_path(name: str) -> str:
    """Return a name up to the expert's number: "...experts." for "...experts.3.w1"."""
    head, word, _ = name.partition(EXPERTS)
    return head + word


def alike(name: str, copies: int) -> tuple[str, int]:
    """Return (path of the experts, `copies`) for a tensor's name; ("", 1) for a single tensor."""
    return ("", 1) if copies == 1 else (expert_path(name), copies)


def numbered(name: str, expert: int) -> str:
    """Return the first expert's `name` with the number `expert` in it."""
    path = expert_path(name)
    return f"{path}{expert}{name[len(path) + 1 :]}"


def last_name(param: Param) -> str:
    """Return the name of the last of the `copies` parameters that `param` stands for."""
    return param.name if param.copies == 1 else numbered(param.name, param.copies - 1)


def told(params: Iterable[Param]) -> Iterator[Param]:
    """Yield counted parameters one by one: all of expert 0, then all of expert 1..."""
    for (path, count), group in groupby(params, lambda p: alike(p.name, p.copies)):
        if not path:
            yield from group
            continue
        named = [(p.name[len(path) + 1 :], p._replace(copies=1)[1:]) for p in group]
        for i in range(count):
            prefix = f"{path}{i}"
            for tail, facts in named:
                yield Param(prefix + tail, *facts)


def _unnumbered(param: Param) -> str:
    """Return a parameter's name without the expert's number."""
    if param.routed[1] == 1:
        return param.name
    head, _, tail = param.name.partition("experts.")
    return f"{head}experts.{tail.partition('.')[2]}" if tail[:1].isdigit() else param.name


Params = Iterable[Param]
ParamRule = Callable[[Config, str], Params]


@frozen_record
class Family:
    """The classes of a model type: their tensors, heads and buffers.

    `tree` describes a decoder by its modules. A family without one has a `body`: the tensors of the
    base model below a path ("model." or "", dot included). A class whose name ends in one of
    `heads` holds that base model as `base`, and the head next to it; any other class whose name
    ends in "Model" is the base model itself. Classes that hold another base (BERT without its
    pooler, only the encoder of T5) are in `classes`, also by the end of their names.
    """

    tree: "Callable[[Config], Decoder] | None" = None
    body: ParamRule | None = None
    base: str = "model"
    bases: Mapping[str, str] = field(
        default_factory=dict
    )  # head -> path of its base model, if not `base`
    cls: str = ""  # the class if the config names none
    stems: tuple[str, ...] = ()  # beginnings of its classes' names, if not that of `cls`
    heads: Mapping[str, ParamRule] = field(default_factory=dict)
    classes: Mapping[str, "Family"] = field(default_factory=dict)
    buffers: Callable[[Config, str], Iterable[Buffer]] | None = None
    blocks: tuple[str, ...] | Callable[[Config], Iterable[str]] = ("layers.*",)  # below the base
    ties: bool | Callable[[Config], bool] = False  # the embedding is tied, by default
    parts: tuple[tuple[str, str], ...] = ()  # (path below the base model, "vision tower", ...)
    renames: tuple[tuple[str, str], ...] = ()  # module prefix -> checkpoint prefix, with a head

    def tensors(self, c: Config, prefix: str) -> Params:
        """Return the parameters of the base model below the path `prefix`."""
        if self.tree is not None:
            return self.tree(c).tensors(prefix)
        assert self.body is not None
        return self.body(c, prefix)


NOT_IN_HALF = "float32 in float16"  # transformers' _keep_in_fp32_modules, which bfloat16 escapes


def held(param: Param, dtype: DType) -> DType:
    """Return the dtype in which a class keeps `param` if it is loaded in `dtype`."""
    if param.dtype == NOT_IN_HALF:
        return FLOAT32 if dtype == FLOAT16 else dtype
    return TORCH[param.dtype] if param.dtype else dtype


def linear(
    path: str, outputs: int, inputs: int, *, bias: bool = False, role: str = ""
) -> Iterator[Param]:
    """Yield a weight [outputs, inputs] and, with `bias`, a bias [outputs]. `role`: a key of ROLES
    in roles.py."""
    yield Param(f"{path}.weight", (outputs, inputs), role=role)
    if bias:
        yield Param(f"{path}.bias", (outputs,), "bias", role=role)


def affine(path: str, outputs: int, inputs: int, *, role: str = "") -> Iterator[Param]:
    """Yield a linear layer with bias: a weight [outputs, inputs] and a bias [outputs]."""
    return linear(path, outputs, inputs, bias=True, role=role)


def conv1d(path: str, outputs: int, inputs: int, *, bias: bool = True) -> Iterator[Param]:
    """Yield transformers' Conv1D: a weight [inputs, outputs], a Linear's transposed, and a bias."""
    yield Param(f"{path}.weight", (inputs, outputs), "conv1d")
    if bias:
        yield Param(f"{path}.bias", (outputs,), "bias")


def conv(path: str, shape: tuple[int, ...], *, bias: bool = True) -> Iterator[Param]:
    """Yield a convolution; `shape` is [out, in / groups, *kernel]."""
    yield Param(f"{path}.weight", shape, "conv")
    if bias:
        yield Param(f"{path}.bias", (shape[0],), "bias")


def embedding(path: str, rows: int, width: int) -> Iterator[Param]:
    yield Param(f"{path}.weight", (rows, width), "embedding")


def norm(path: str, width: int, *, bias: bool = False) -> Iterator[Param]:
    """Yield an RMSNorm, a weight [width]; with `bias`, a LayerNorm."""
    yield Param(f"{path}.weight", (width,), "norm")
    if bias:
        yield Param(f"{path}.bias", (width,), "norm")


def layer_norm(path: str, width: int) -> Iterator[Param]:
    """Yield a LayerNorm: a weight and a bias, [width] each."""
    return norm(path, width, bias=True)


def gated_mlp(path: str, width: int, inner: int, *, bias: bool = False) -> Iterator[Param]:
    """Yield gate_proj, up_proj and down_proj: SwiGLU and its relatives."""
    yield from linear(f"{path}.gate_proj", inner, width, bias=bias, role="gate")
    yield from linear(f"{path}.up_proj", inner, width, bias=bias, role="up")
    yield from linear(f"{path}.down_proj", width, inner, bias=bias, role="down")


def experts(
    before: str, one: Callable[[str], Params], *, top_k: int, count: int
) -> Iterator[Param]:
    """Yield the parameters of `count` routed experts named `before` and a number, each with the
    parameters that `one` yields below a path.

    They differ only in their number, so where the names show it, only the first is yielded, with a
    count.
    """
    rows = [
        p._replace(kind="expert" if p.kind == "linear" else p.kind, routed=(top_k, count))
        for p in one(f"{before}0")
    ]
    if count and before == expert_path(before) and before.endswith(EXPERTS):
        yield from (p._replace(copies=count) for p in rows)
        return
    for i in range(count):
        yield from (p._replace(name=f"{before}{i}{p.name[len(before) + 1 :]}") for p in rows)


def fused(path: str, shape: tuple[int, ...], *, top_k: int, count: int) -> Iterator[Param]:
    """Yield one parameter of `shape` that stacks all routed experts."""
    yield Param(path, shape, "experts", routed=(top_k, count))
