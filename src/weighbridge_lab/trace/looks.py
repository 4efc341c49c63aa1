"""Looks at data: what a program is told when it asks a fake tensor for its values.

Small tensors of integers, truth values and few numbers that follow from constants, or from what
the program made or drew on the host, keep a shadow: the real tensor, computed beside the fake one.
So positions, masks of ones, boxes and shuffled indices are what they are on a GPU. A tensor of any
size that has one value everywhere keeps that (shadows.py). Of all others

    one value    is 0, or the least that a clamp left
    how many     (nonzero, unique, a boolean index, boxes that nms keeps) is all of them, in order
    finite       are all values: isnan is false and isfinite true
    order        that all of them are >= or <= others is true, that any are is false

and the program's user is warned once.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    unset_fake_temporarily,
)
from torch.utils._pytree import tree_flatten, tree_iter, tree_map_only, tree_unflatten

from weighbridge.base.records import replace
from weighbridge_lab.trace.counts import COUNTS, MASKED, faked, first, masks
from weighbridge_lab.trace.places import COMPARED, Assume, ValuePlace, ValueQuestion, assumed, seen
from weighbridge_lab.trace.refusals import refused
from weighbridge_lab.trace.shadows import (
    ABSORBING,
    LARGE,
    MADE,
    VIEWS,
    WHOLE,
    absorbed,
    aside,
    cast,
    is_uniform,
    lost,
    on_host,
    shadow,
    small,
    uniform,
)

Args = tuple[Any, ...]
EXCEPTIONS = (DataDependentOutputException, DynamicOutputShapeException)
DRAWN = torch.Tag.nondeterministic_seeded
LOOKED = (
    "the program looks at values of fake tensors ({op}) and is told {answer}; where its course "
    "depends on them a real run may differ"
)
FEWEST = 64  # smaller counts do not identify tensors: batches have fewer
VALUE, COUNT = "0", "that all of them count"


class Looks:
    """Answers to looks at unknown values, with one warning per kind. `told` are the warnings,
    `places` where values were looked at. `assume` has the user's values."""

    def __init__(self, assume: Assume | None = None) -> None:
        self.told: list[str] = []
        self.asked = 0  # times that the run may have depended on a value
        self.assume: Assume = {} if assume is None else assume
        self.places: dict[tuple[str, str], tuple[ValuePlace, ValueQuestion]] = {}
        self.most: dict[str, None] = {}  # places at which a size is an upper bound
        self.counted: dict[int, str] = {}  # such sizes on the host -> their places

    def answer(self, func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        """Return the answer to an operation whose result, or its size, depends on unknown
        values."""
        self.asked += 1
        known = _computed(func, args, kwargs)
        if known is not None:
            return tree_map_only(torch.Tensor, lambda t: faked(t, args), known)
        name = func.overloadpacket.__name__
        if name in VALUES:
            return self._value(name, args)
        if name not in COUNTS:
            raise refused(func, "the program")
        if name not in MASKED or any(known is None for known in map(shadow, masks(args))):
            self._warn(name, COUNT)
            place = seen()
            self._placed(place, name, "all of them", assumed=False)
            if name != "bincount":
                return self._most_of(place.name, COUNTS[name](func, args, kwargs))
        return COUNTS[name](func, args, kwargs)

    def _most_of(self, place: str, out: Any) -> Any:
        """Note that a size is an upper bound; for one on the host, once it is used on the card."""
        if first((out,)).device.type != "cpu":
            self.most[place] = None
            return out
        for tensor in tree_iter(out):
            aside(tensor)["most"] = place
            self.counted |= {size: place for size in tensor.shape if size > FEWEST}
        return out

    def _carried(self, args: Args, kwargs: dict[str, Any], out: Any) -> None:
        """Track tensors that depend on such a size on the host: those made from others that do, and
        those with a dimension of the same size."""
        tensors = (t for t in tree_iter((args, kwargs)) if isinstance(t, FakeTensor))
        place = next((aside(t)["most"] for t in tensors if "most" in aside(t)), None)
        for tensor in tree_iter(out):
            if not isinstance(tensor, FakeTensor):
                continue
            known = (self.counted[size] for size in tensor.shape if size in self.counted)
            most = place or next(known, None)
            if most and tensor.device.type != "cpu":
                self.most[most] = None
            elif most:
                aside(tensor)["most"] = most

    def padded(self, *_: Any) -> bool:
        """Return False, so that an encoder keeps the padding at the end."""
        self.bounded()
        return False

    def bounded(self) -> None:
        """Note the place that runs now as one whose size is an upper bound."""
        self.most[seen().name] = None

    def _value(self, name: str, args: Args) -> Any:
        """Return one value: the user's, else the default for unknown values."""
        place, value = seen(), _default(args[0]) if name == "_local_scalar_dense" else False
        look = ValueQuestion(
            place=place.name, code=place.code, op=name.strip("_"), told=str(value), times=0
        )
        assumption = assumed(self.assume, place, look) if self.assume else None
        if assumption is None:
            self._warn(name, VALUE)
        else:
            value = _as(args[0], assumption)
        self._placed(place, look.op, str(value), assumed=assumption is not None)
        return value

    def _placed(self, place: ValuePlace, op: str, told: str, *, assumed: bool) -> None:
        before = self.places.get((place.name, op))
        if before is not None:
            place, look = before
            self.places[place.name, op] = place, replace(look, times=look.times + 1)
            return
        look = ValueQuestion(
            place=place.name, code=place.code, op=op, told=told, times=1, assumed=assumed
        )
        self.places[place.name, op] = place, look

    def _warn(self, op: str, answer: str) -> None:
        if not any(answer in line for line in self.told):
            self.told.append(LOOKED.format(op=op.strip("_"), answer=answer))
            warnings.warn(self.told[-1], stacklevel=2)

    def follow(self, func: Any, args: Args, kwargs: dict[str, Any], out: Any) -> None:
        """Give results their shadows; tensors overwritten with unknown values lose theirs."""
        if self.counted:
            self._carried(args, kwargs, out)
        if func._schema.is_mutable:
            self._written(func, args, kwargs, out)
        elif isinstance(out, torch.Tensor):
            if shadow(out) is None:
                known = _computed(func, args, kwargs) if _followed(func, out) else None
                known = _uniform(func, args, out) if known is None else known
                if known is not None:
                    cast(out, known)
                else:
                    _bounded(func, args, kwargs, out)
        elif isinstance(out, list | tuple) and all(_tensor(func, t) for t in out):
            known = _computed(func, args, kwargs)
            for t, values in zip(out, known or (), strict=False):
                cast(t, values)

    def _written(self, func: Any, args: Args, kwargs: dict[str, Any], out: Any) -> None:
        known = None
        if isinstance(out, torch.Tensor) and _followed(func, out):
            known = _computed(func, args, kwargs)
        if known is not None:
            cast(out, known)
            return
        for position, t in enumerate(tree_iter(args)):
            if isinstance(t, torch.Tensor) and not _spared(func, position, args):
                lost(t)


def _spared(func: Any, position: int, args: Args) -> bool:
    """Return whether an argument keeps its known values: a gradient scaler counts infinite ones in
    its second argument, and there are none."""
    checks = func.overloadpacket.__name__ == "_amp_foreach_non_finite_check_and_unscale_"
    return checks and position >= len(args[0])


def _uniform(func: Any, args: Args, out: torch.Tensor) -> torch.Tensor | None:
    """Return the value that a tensor has everywhere; for a small new tensor as separate elements,
    as they may be overwritten. None without one."""
    known = uniform(func, args, out)
    fresh = func.overloadpacket.__name__ in MADE and small(out) and out.is_contiguous()
    with unset_fake_temporarily():
        return known.contiguous() if known is not None and fresh else known


def _bounded(func: Any, args: Args, kwargs: dict[str, Any], out: torch.Tensor) -> None:
    """Note the lower bound of an unknown tensor, or the number that it was compared with."""
    name = func.overloadpacket.__name__
    if name in ("clamp", "clamp_min"):
        least = args[1] if len(args) > 1 else kwargs.get("min")
        if isinstance(least, int | float):
            aside(out)["least"] = least
    elif name in COMPARED and out.numel() == 1:
        other = _number(args[1])
        if other is not None:
            aside(out)["compared"] = name, other
        least = aside(args[0]).get("least") if isinstance(args[0], FakeTensor) else None
        if name == "gt" and least is not None and other is not None and least > other:
            with unset_fake_temporarily():
                cast(out, torch.ones(out.shape, dtype=torch.bool))
    elif name in KEEPING or name in VIEWS:
        least = aside(args[0]).get("least") if isinstance(args[0], FakeTensor) else None
        if least is not None:
            aside(out)["least"] = least


def _number(value: Any) -> float | None:
    """Return a known number, None for anything else."""
    if isinstance(value, torch.Tensor):
        known = shadow(value)
        with unset_fake_temporarily():
            return None if known is None or known.numel() != 1 else float(known.item())
    return float(value)


def _default(tensor: torch.Tensor) -> Any:
    """Return the default for one unknown value: 0, or its lower bound."""
    zero = nothing(tensor.dtype)
    least = aside(tensor).get("least", 0) if isinstance(tensor, FakeTensor) else 0
    return type(zero)(least) if least > 0 else zero


def _as(tensor: torch.Tensor, value: float) -> Any:
    """Return the user's value in the tensor's Python type, or the result of comparing it."""
    compared = aside(tensor).get("compared") if isinstance(tensor, FakeTensor) else None
    if compared is not None:
        name, other = compared
        return COMPARED[name](value, other)
    return type(nothing(tensor.dtype))(value)


def nothing(dtype: torch.dtype) -> Any:
    """Return 0 in the Python type of a dtype."""
    if dtype == torch.bool:
        return False
    return 0j if dtype.is_complex else 0.0 if dtype.is_floating_point else 0


def _followed(func: Any, out: torch.Tensor) -> bool:
    """Return whether a result gets a shadow. Drawn indices are as good as any, and so are numbers
    drawn on the host; programs do not look at those on the device."""
    if out.numel() > 1 and out.dtype not in WHOLE and DRAWN in func.tags:
        new = not func._schema.is_mutable  # else a layer's weights begin so
        return out.device.type == "cpu" and (small(out) or (new and on_host(out)))
    return small(out) or on_host(out) or func.overloadpacket.__name__ in VIEWS


def _tensor(func: Any, out: Any) -> bool:
    return isinstance(out, torch.Tensor) and _followed(func, out)


def _computed(func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """Return the result of `func` for the known values; None if one is unknown or random."""
    name = func.overloadpacket.__name__.rstrip("_")
    if name in ABSORBING and all(isinstance(a, torch.Tensor) for a in args):
        decided = absorbed(args, ABSORBING[name])
        if decided is not None:
            return decided
    name = func.overloadpacket.__name__
    flat, spec = tree_flatten((args, kwargs))
    real = []
    for position, value in enumerate(flat):
        if isinstance(value, torch.Tensor):
            whole = not position and (name in OVERWRITING or _covered(name, args))
            value = _written(value) if whole else shadow(value)
            if value is None or not _usable(func, value):
                return None
        elif isinstance(value, torch.device):
            value = torch.device("cpu")
        real.append(value)
    with unset_fake_temporarily():
        known_args, known_kwargs = tree_unflatten(real, spec)
        out = func(*known_args, **known_kwargs)
    return _begun(out, flat) if name in EMPTY else out


def _begun(out: torch.Tensor, flat: Sequence[Any]) -> torch.Tensor:
    """Return the shadow of an empty tensor. On the host it is zeros, as good as what was there
    before; on the device a kernel that does nothing here may fill it."""
    named = (value.type for value in flat if isinstance(value, torch.device))
    theirs = (value.device.type for value in flat if isinstance(value, torch.Tensor))
    if next(named, next(theirs, "cpu")) == "cpu":
        with unset_fake_temporarily():
            return out.zero_()
    out.untyped_storage().lost = True
    return out


def _covered(name: str, args: Args) -> bool:
    """Return whether indices are a permutation to be inverted, so that all values are
    overwritten."""
    if name != "scatter_" or args[0].dim() != 1 or args[2].shape != args[0].shape:
        return False
    known = shadow(args[2])
    if known is None:
        return False
    with unset_fake_temporarily():
        return bool((known.sort().values == torch.arange(known.numel())).all())


def _usable(func: Any, known: torch.Tensor) -> bool:
    """Return whether a shadow may be used in a computation. One value that stands for many is not
    written to, and has its own views (shadows.py); too many values have only views."""
    viewed = func.overloadpacket.__name__ in VIEWS
    if is_uniform(known) and (viewed or func._schema.is_mutable):
        return False
    return viewed or known.numel() <= LARGE


def _written(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the shadow of a tensor about to be overwritten: even a lost one if all of it is; None
    if its values are unknown."""
    known: torch.Tensor | None = (
        aside(tensor).get("shadow") if isinstance(tensor, FakeTensor) else None
    )
    if known is None or known.numel() * known.element_size() != known.untyped_storage().nbytes():
        return shadow(tensor)
    known.untyped_storage().lost = False
    return known


EMPTY = frozenset(("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"))
OVERWRITING = frozenset(("copy_", "fill_", "zero_", "random_", "normal_", "uniform_"))
KEEPING = frozenset(("ceil", "floor", "round", "trunc", "_to_copy", "clone", "index_select"))
VALUES = ("_local_scalar_dense", "is_nonzero", "equal", "allclose")
