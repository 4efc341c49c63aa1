"""Record the forward of a class of diffusers as the program that pictures/recorded.py plays.

    python -m tools.record_net            every class that tools/net_draws.py names
    python -m tools.record_net Kandinsky5Transformer3DModel

builds the class with small numbers, runs its forward under a TorchFunctionMode, and writes down
each function with its result, parameters by their names, blocks, and where Python drops each tensor
(a weak reference tells). Several recordings at other configs and sizes must be alike but for their
numbers; each number is solved as a sum of products of the config's fields and the sizes. What is
written (src/weighbridge/pictures/nets/CLASS.txt) is read in pictures/recorded.py.
"""

import os
import random
import re
import sys
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, zip_longest
from math import prod
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tools.net_draws import CLASSES, OWN, SENDING
from tools.net_forms import folded
from torch.overrides import TorchFunctionMode, resolve_name

OUT = Path(__file__).parent.parent / "src/weighbridge/pictures/nets"
RUNS, LAYERS = 6, 4
AS_WIDE = "cross_attention_dim", "audio_cross_attention_dim", "img_context_dim_out"
DEEPEST = 4  # factors of a product
COPIES = "contiguous", "clone", "reshape", "flatten"
SHARED = "view", "part", "split"  # what these give lies in the memory of what they read
PLAIN = "mul", "add", "sub", "div", "scale", "shift", "act", "result", "power", "rsqrt", "softmax"
WORDS = {
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), "mul"),
    **dict.fromkeys(("add", "__add__", "__radd__"), "add"),
    **dict.fromkeys(("sub", "__sub__", "__rsub__"), "sub"),
    **dict.fromkeys(("div", "__truediv__"), "div"),
    **dict.fromkeys(("to", "float", "type_as", "type", "bfloat16"), "cast"),
    **dict.fromkeys(("silu", "gelu"), "act"),
    **dict.fromkeys(("sigmoid", "tanh", "relu"), "result"),
    **dict.fromkeys(("pow", "square", "__pow__"), "power"),
    **dict.fromkeys(("neg", "__neg__"), "scale"),
    **dict.fromkeys(("matmul", "__matmul__", "bmm"), "matmul"),
    **dict.fromkeys(("chunk", "split", "unbind"), "split"),
}
KINDS = {
    "conv": (torch.nn.Conv2d, torch.nn.Conv3d),
    "linear": (torch.nn.Linear,),
    "embedding": (torch.nn.Embedding,),
}
QUIET = ("size", "dim", "is_floating_point", "numel", "stride", "is_contiguous", "data_ptr")


@dataclass(slots=True)
class Event:
    """One line of a program: an operation, a drop, or the begin or end of a block."""

    op: str
    outs: list[int]
    ins: list[int]
    words: dict[str, Any]  # numbers in lists are solved; others are text

    @property
    def read(self) -> list[int]:
        """Values that words name."""
        return [word[1] for word in self.words.values() if isinstance(word, tuple)]


class Recorder(TorchFunctionMode):
    """Writes down what happens to tensors while it is entered."""

    def __init__(self, names: Mapping[int, str], norms: Collection[str]) -> None:
        self.events: list[Event] = []
        self.norms, self.sends = norms, False
        self.numbers: dict[int, int] = {}
        self.names, self.count, self.depth = names, 0, 0
        self.read: list[tuple[torch.dtype, int]] = []  # dtypes that were asked for, and of whom

    def number(self, tensor: torch.Tensor, *, made: bool = True) -> int:
        key = id(tensor)
        if key not in self.numbers:
            self.count += 1
            self.numbers[key] = number = self.count
            weakref.finalize(tensor, self._gone, key, number)
            if not made:  # given from outside
                words = {"to": list(wide(tensor)), **other(tensor)}
                self.events.append(Event("given", [number], [], words))
        return self.numbers[key]

    def _gone(self, key: int, number: int) -> None:
        if self.numbers.get(key) == number:
            del self.numbers[key]
            self.events.append(Event("free", [], [number], {}))

    def of(self, tensor: torch.Tensor) -> int:
        """The number of an input; a parameter becomes a value where it is read as one."""
        name = self.names.get(id(tensor))
        if name is None:
            return self.number(tensor, made=False)
        self.count += 1
        op = "param" if isinstance(tensor, torch.nn.Parameter) else "buffer"
        words: dict[str, Any] = {"at": name, "to": list(tensor.shape)}
        if name in self.norms:
            words["kind"] = "norm"
        self.events.append(Event(op, [self.count], [], words))
        return self.count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, (resolve_name(func) or str(func)).split(".")
        word = name[-2] if name[-1] == "__get__" else name[-1]
        word = "scaled_dot_product_attention" if func is _attended else word
        if self.depth or word in QUIET:
            return func(*args, **kwargs)
        if name[-1] == "__get__" and word not in ("T", "mT", "real", "imag"):
            if word == "dtype" and id(args[0]) in self.numbers:
                self.read.append((args[0].dtype, self.numbers[id(args[0])]))
            return func(*args, **kwargs)
        self.depth += 1
        before = [wide(a) for a in tensors(args)]
        try:
            out = func(*args, **kwargs)
        finally:
            self.depth -= 1
        outs = tensors([out])
        if outs or word == "__setitem__":
            self.write(word, outs, args, kwargs, before)
        return out

    def write(self, word: str, outs: list[Any], args: Any, kwargs: Any, before: list[Any]) -> None:
        given = tensors(args) + tensors(kwargs.values())
        op = WORDS.get(word, word)
        if op in (
            "linear",
            "layer_norm",
            "rms_norm",
            "conv2d",
            "conv3d",
            "group_norm",
            "embedding",
        ):
            self.layer(op, outs[0], args, kwargs)
        elif op == "scaled_dot_product_attention":
            self.attention(outs[0], args, kwargs)
        elif op == "__setitem__" or (word.endswith("_") and not word.endswith("__")):
            base = given[0]._base  # which has what is written into a view of it
            given[0] = base if id(base) in self.numbers else given[0]
            ins = [self.of(one) for one in given]
            if word.startswith("addc"):  # what it adds is of both, which it keeps
                self.count += 1
                self.events.append(Event(op[4:-1], [self.count], ins[1:], {}))
                ins = [ins[0], self.count]
            if len(ins) > 1:
                self.events.append(Event("written", ins[:1], [ins[0], ins[-1]], {}))
                if word.startswith("addc"):
                    self.events.append(Event("free", [], ins[-1:], {}))
        elif outs and any(outs[0] is one for one in given):
            if op == "cast":
                number = self.of(outs[0])
                self.events.append(Event("cast", [number], [number], self.dtype(outs[0], args)))
        else:
            self.plain(op, word, outs, args, kwargs, given)

    def plain(self, op: str, word: str, outs: Any, args: Any, kwargs: Any, given: Any) -> None:
        if op in ("mul", "add", "sub", "div") and len(given) == 1:
            op = "shift" if op in ("add", "sub") else "scale"
        if op == "split" and len(outs) > 1:
            self.split(word, outs, args, kwargs, given[0])
            return
        shape, words = list(wide(outs[0])), {}
        if op == "cast":
            words = self.dtype(outs[0], args)
        elif op == "cat":
            words = {"dim": str(last(kwargs.get("dim", args[-1]), outs[0]))}
        elif op == "matmul":
            words = {"to": shape[-1:]}
        elif not plainly(op, outs[0], given):
            op, words = moved(word, outs[0], given), {"to": shape}
            if op == "made":
                words["was"] = word
            if op in ("new", "made"):
                words |= other(outs[0])
        ins = [self.of(one) for one in given]
        self.events += [Event(op, [self.number(one)], ins, words) for one in outs]

    def split(self, word: str, outs: Any, args: Any, kwargs: Any, first: Any) -> None:
        given = len(args) == (2 if word == "unbind" else 3)
        dim = last(kwargs.get("dim", args[-1] if given else 0), first)
        sizes = [1] * len(outs) if word == "unbind" else [one.shape[dim] for one in outs]
        source = self.of(first)
        numbers = [self.number(one) for one in outs]
        self.events.append(Event("split", numbers, [source], {"dim": str(dim), "to": sizes}))
        if word == "unbind":
            for number, one in zip(numbers, outs, strict=True):
                self.events.append(Event("view", [number], [number], {"to": list(wide(one))}))

    def dtype(self, out: Any, args: Any) -> dict[str, Any]:
        """Whose dtype it is, where the source asked for one before; else which it is."""
        if len(args) > 1 and isinstance(args[1], torch.Tensor):
            return {"like": ("id", self.of(args[1]))}
        if out.dtype != OWN:
            return other(out)
        asked = next((n for dtype, n in reversed(self.read) if dtype == out.dtype), None)
        return {} if asked is None else {"like": ("id", asked)}

    def layer(self, op: str, out: Any, args: Any, kwargs: Any) -> None:
        """A function with parameters: their names stand for it."""
        at = {"linear": 1, "embedding": 1, "conv2d": 1, "conv3d": 1}.get(op, 2)
        weight = kwargs.get("weight", args[at] if len(args) > at else None)
        bias = kwargs.get("bias", args[at + 1] if len(args) > at + 1 else None)
        x = args[1] if op == "embedding" and id(args[0]) in self.names else args[0]
        if op == "embedding":
            weight = args[1] if id(args[1]) in self.names else args[0]
        name = self.names.get(id(weight), "-").removesuffix(".weight")
        words: dict[str, Any] = {"at": name}
        if op == "linear":
            words["to"] = [out.shape[-1]]
        elif op == "embedding":
            words["to"] = [*x.shape, *weight.shape]
        elif op.startswith("conv"):
            words |= {"to": [weight.shape[0]], "kernel": list(weight.shape[2:])}
            words |= {
                "stride": list(both(kwargs.get("stride", args[3] if len(args) > 3 else 1), x))
            }
            words |= {"pad": list(both(kwargs.get("padding", args[4] if len(args) > 4 else 0), x))}
            if x.ndim == 4 and x.stride(1) == 1 < min(x.shape[1:]):
                words["last"] = "1"
            groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
            if groups > 1:
                words["groups"] = [groups]
        elif op == "group_norm":
            words["groups"] = [args[1]]
        if bias is not None:
            words["bias"] = "1"
        if op == "layer_norm" and not x.is_contiguous():
            words["strided"] = "1"
        number = self.of(x)
        self.events.append(
            Event(
                op.rstrip("23d") if op.startswith("conv") else op,
                [self.number(out)],
                [number],
                words,
            )
        )

    def attention(self, out: Any, args: Any, kwargs: Any) -> None:
        q, k, v = (
            args[i] if len(args) > i else kwargs[n] for i, n in enumerate(("query", "key", "value"))
        )
        mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
        words = {"to": list(out.shape), "keys": [k.shape[2], k.shape[1]]}
        if q.stride(1) > q.stride(2):
            words["first"] = "1"
        ins = [self.of(one) for one in (q, k, v, mask) if one is not None]
        event = Event("attend", [self.number(out)], ins, words)
        begin, end = Event("sends", [], [], {"what": "all"}), Event("sends", [], [], {})
        self.events += [begin, event, end] if self.sends else [event]


def moved(word: str, out: torch.Tensor, given: Sequence[torch.Tensor]) -> str:
    """What an operation is that changes no number: a view, a part of one, a copy; or a new one."""
    if not given:
        return "new"
    same = prod(wide(out)) == prod(wide(given[0]))
    if any(shared(out, one) for one in given):
        return "view" if same else "part"
    return "copy" if same and word in COPIES else "made"


def plainly(op: str, out: torch.Tensor, given: Sequence[torch.Tensor]) -> bool:
    """Tell whether an operation is one of ours, whose result is as wide as what it reads."""
    if op == "mean":
        return wide(out) == (*wide(given[0])[:-1], 1)
    return op in PLAIN and any(out.dtype == one.dtype for one in given)


def other(tensor: torch.Tensor) -> dict[str, Any]:
    """A dtype that is not the run's own."""
    name = str(real(tensor.dtype)).removeprefix("torch.")
    return {} if tensor.dtype == OWN else {"dtype": name}


def last(dim: int, out: torch.Tensor) -> int:
    """A dimension as it is counted from the last."""
    return dim - out.ndim if dim >= 0 else dim


def wide(tensor: torch.Tensor) -> tuple[int, ...]:
    """A shape, with numbers that are complex as two."""
    shape = tuple(tensor.shape)
    return (*shape[:-1], 2 * shape[-1]) if tensor.is_complex() else shape


def real(dtype: torch.dtype) -> torch.dtype:
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def shared(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def both(side: Any, x: torch.Tensor) -> tuple[int, ...]:
    return (side,) * (x.ndim - 2) if isinstance(side, int) else tuple(side)


def tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for one in values:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += tensors(one)
        elif isinstance(one, dict):
            found += tensors(one.values())
    return found


# ---- one recording


@dataclass(slots=True)
class Recording:
    """Events of one forward; `known` are the numbers that expressions are made of."""

    events: list[Event]
    known: dict[str, int]


def recorded(cls: str, config: dict[str, Any], sizes: dict[str, int], inputs: Any) -> Recording:
    import diffusers

    torch.set_default_dtype(OWN)
    module = getattr(diffusers, cls)(**config).eval()
    torch.set_default_dtype(torch.float32)
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    for name, parameter in module.named_parameters():
        if kept.intersection(name.split(".")):
            parameter.data = parameter.data.float()
    stored = module.state_dict(keep_vars=True)
    for one in stored.values():
        if not isinstance(one, torch.nn.Parameter) and one.is_floating_point():
            one.data = one.data.to(OWN)  # as from_pretrained leaves it
    names = {id(p): name for name, p in stored.items()}
    normed = {
        f"{at}.{n}"
        for at, m in module.named_modules()
        if "Norm" in type(m).__name__
        for n, _ in m.named_parameters(recurse=False)
    }
    recorder = Recorder(names, normed)
    recorder.sends = SENDING.get(cls) == "all"
    for name, one in module.named_modules():
        if hasattr(one, "processor") and SENDING.get(cls) == "inputs":
            sends(one, recorder)
        if isinstance(one, torch.nn.ModuleList) and not re.search(r"\d", name):
            for number, block in enumerate(one if len(one) > 1 else ()):
                place(block, f"{name}.{number}", recorder)
    sdpa, torch.nn.functional.scaled_dot_product_attention = (
        torch.nn.functional.scaled_dot_product_attention,
        attended,
    )
    if "ready" in inputs:
        inputs.pop("ready")(module)
    given = {key: made(value) for key, value in inputs.items()}
    for one in tensors(given.values()):
        recorder.number(one, made=False)
    try:
        with torch.no_grad(), recorder:
            out = module(**given, return_dict=False)
    finally:
        torch.nn.functional.scaled_dot_product_attention = sdpa
    events = list(recorder.events)
    [result] = tensors([out])[:1]
    events.append(Event("give", [], [recorder.numbers[id(result)]], {}))
    unmet(module, events)
    return Recording(settled(events), {**sizes, **numbers(config)})


def settled(events: Sequence[Event]) -> list[Event]:
    """Let views of one memory end where they are read last, but for the one that is read last of
    all: whether Python keeps the others hangs on how an input lies, and none of them holds more.
    None ends in a block that it was not made in and did not end in."""
    groups: dict[int, list[int]] = {}
    born: dict[int, int] = {}
    used: dict[int, int] = {}
    ends: dict[int, tuple[int, int]] = {}  # turn before the end, and the end
    blocks, turn = [0], 0
    for i, e in enumerate(events):
        blocks.append(blocks[-1] + (e.op in ("enter", "leave")))
        if e.op == "free":
            ends[e.ins[0]] = turn, i
            continue
        turn = i
        group = groups.get(e.ins[0], []) if e.op in SHARED else []
        for n in e.outs:
            born.setdefault(n, i)
            if n not in groups:
                groups[n] = group if e.op in SHARED else []
                groups[n].append(n)
        used |= dict.fromkeys((*e.outs, *e.ins, *e.read), i)
    after: dict[int, list[int]] = {}
    never = len(events), len(events)
    for group in {id(one): one for one in groups.values()}.values():
        holds = max(group, key=lambda n: (ends.get(n, never)[0], used[n], born[n]))
        last = max(ends.get(n, never)[1] for n in group)
        for n in group:
            end = ends.get(n, never)[1]
            at = last if n == holds else min(end, max(used[n], born[holds]))
            at = at if n == holds or blocks[at] in (blocks[end], blocks[born[n]]) else end
            after.setdefault(at, []).append(n)
    kept = ([e] if e.op != "free" else [] for e in events)
    freed = ([Event("free", [], [n], {}) for n in after.get(i, ())] for i in range(len(events)))
    return [e for both in zip(kept, freed, strict=True) for one in both for e in one]


def unmet(module: Any, events: list[Event]) -> None:
    """Declare parameters that no operation read."""
    kinds = {id(m.weight): k for k, t in KINDS.items() for m in module.modules() if type(m) in t}
    met = {e.words["at"] for e in events if "at" in e.words}
    for name, one in module.state_dict(keep_vars=True).items():
        if name not in met and name.rpartition(".")[0] not in met:
            kind = kinds.get(id(one), "bias" if name.endswith(".bias") else "other")
            words = {"at": name, "kind": kind, "to": list(one.shape)}
            events.insert(0, Event("declare", [], [], words))


def numbers(config: Mapping[str, Any]) -> dict[str, int]:
    known: dict[str, int] = {}
    for key, value in config.items():
        each = enumerate(value) if isinstance(value, list) else ()
        known |= {f"{key}.{i}": one for i, one in each if isinstance(one, int)}
        if isinstance(value, int):
            known[key] = int(value)
    return known


def attended(
    query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any
) -> Any:
    """Attention as kernels of a GPU give it: [batch, tokens, heads, head] in memory."""
    words = {"query": query, "key": key, "value": value, "attn_mask": attn_mask}
    return torch.overrides.handle_torch_function(_attended, (query,), **words)


def _attended(query: Any, key: Any, value: Any, attn_mask: Any = None) -> Any:
    b, h, t, _ = query.shape
    return query.new_empty((b, t, h, value.shape[-1])).transpose(1, 2)


def place(module: Any, name: str, recorder: Recorder) -> None:
    def enters(*_: Any) -> None:
        recorder.events.append(Event("enter", [], [], {"at": name}))

    def leaves(*_: Any) -> None:
        recorder.events.append(Event("leave", [], [], {"at": name}))

    module.register_forward_pre_hook(enters)
    module.register_forward_hook(leaves)


def sends(module: Any, recorder: Recorder) -> None:
    """Note where what attention saves may begin and end to wait in host memory."""

    def begins(*_: Any) -> None:
        recorder.events.append(Event("sends", [], [], {"what": "inputs"}))

    def ends(*_: Any) -> None:
        recorder.events.append(Event("sends", [], [], {}))

    module.register_forward_pre_hook(begins)
    module.register_forward_hook(ends)


def made(value: Any) -> Any:
    if isinstance(value, tuple) and all(isinstance(one, int) for one in value):
        return torch.zeros(value, dtype=OWN)
    return value() if callable(value) else value


# ---- blocks that are alike


def rolled(events: list[Event]) -> list[Event]:
    """Put blocks of each list that do the same under one `each`."""
    heads = [e.words["at"].rpartition(".")[0] for e in events if e.op == "enter"]
    for head in dict.fromkeys(heads):
        events = _rolled(events, head, heads.count(head))
    return events


def _rolled(events: list[Event], head: str, count: int) -> list[Event]:
    at = [
        i
        for i, e in enumerate(events)
        if e.op == "enter" and e.words["at"].rpartition(".")[0] == head
    ]
    out = [
        i
        for i, e in enumerate(events)
        if e.op == "leave" and e.words["at"].rpartition(".")[0] == head
    ]
    after = at[-1] - out[-2]
    ends = [*at[1:], out[-1] + after]
    slices = [events[a:b] for a, b in zip(at, ends, strict=True)]
    made_in = [[n for e in one for n in e.outs] for one in slices]
    made_in = [list(dict.fromkeys(one)) for one in made_in]
    local = [{n: k for k, n in enumerate(one)} for one in made_in]
    carried: dict[int, int] = {}

    def plain(i: int) -> list[Any]:
        def of(n: int) -> Any:
            if n in local[i]:
                return local[i][n]
            if i and n in local[i - 1]:
                return ("before", local[i - 1][n])
            return ("out", n)

        return [shape_of(e, of, f"{head}.{i}.") for e in slices[i]]

    kept = plain(1)
    for i in range(2, count):
        check(kept, plain(i), f"{head}.{i}")
    early = aligned(slices, kept)
    first = plain(0)
    for a, b in zip(first, kept, strict=True):
        for place, (x, y) in enumerate(zip(flat(a), flat(b), strict=True)):
            both = isinstance(x, tuple) and isinstance(y, tuple)
            handed = both and (y[0], x[0]) == ("before", "out")
            if handed and place <= len(a[1]) + len(a[2]):  # not where a word asks for its dtype
                handed = carried.setdefault(y[1], x[1]) == x[1]
            if x != y and not handed:
                raise SystemExit(f"the first of {head} is unlike:\n  {a}\n  {b}")
    rename = {n: made_in[0][k] for k, n in enumerate(made_in[-1])}
    body = [stripped(e, f"{head}.0.") for e in slices[0] if e.op != "enter"]
    moved = [made_in[0][k] for k in carried]
    loop = Event("each", [*carried.values()], moved, {"at": head, "to": [count]})
    tail = [renamed(e, rename) for e in events[ends[-1] :]]
    return [*events[: at[0]], *early, loop, *body, Event("next", [], [], {}), *tail]


def aligned(slices: Sequence[list[Event]], kept: Sequence[Any]) -> list[Event]:
    """Make the first block do what the others do, and return what ends early: with its argument
    ends what that is a view of."""
    early: list[Event] = []
    while len(slices[0]) > len(kept):
        unlike = (
            e for e, a in zip_longest(slices[0], kept) if e.op == "free" and (not a or a[0] != e.op)
        )
        early.append(next(unlike))
        slices[0].remove(early[-1])
    for e, later in zip(slices[0], slices[1], strict=False):
        if "strided" not in later.words:  # as what the others are given, not as the first
            e.words.pop("strided", None)
    return early


def shape_of(e: Event, of: Any, prefix: str) -> Any:
    words = tuple(
        (
            k,
            of(v[1])
            if isinstance(v, tuple)
            else tuple(v)
            if isinstance(v, list)
            else v.removeprefix(prefix)
            if k == "at"
            else v,
        )
        for k, v in e.words.items()
        if e.op not in ("enter", "leave")
    )
    return e.op, tuple(map(of, e.outs)), tuple(map(of, e.ins)), words


def flat(a: Any) -> list[Any]:
    """Operation, references and words of an event as a flat list."""
    op, outs, ins, words = a
    return [op, *outs, *ins, *(x for pair in words for x in pair)]


def check(a: list[Any], b: list[Any], where: str) -> None:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            print(*a[i - 6 : i + 6], "", *b[i - 6 : i + 6], sep="\n")
            raise SystemExit(f"{where} is unlike:\n  {x}\n  {y}")
    if len(a) != len(b):
        print(*a[-8:], "", *b[-8:], sep="\n")
        raise SystemExit(f"{where} is longer or shorter: {len(a)} {len(b)}")


def stripped(e: Event, prefix: str) -> Event:
    words = {k: v.removeprefix(prefix) if k == "at" else v for k, v in e.words.items()}
    return Event(e.op, e.outs, e.ins, words)


def renamed(e: Event, names: Mapping[int, int]) -> Event:
    words = {
        k: ("id", names.get(v[1], v[1])) if isinstance(v, tuple) else v for k, v in e.words.items()
    }
    return Event(e.op, [names.get(n, n) for n in e.outs], [names.get(n, n) for n in e.ins], words)


# ---- numbers


class Solver:
    """Finds numbers, seen in several recordings, as sums of products of what is known."""

    def __init__(self, known: Sequence[Mapping[str, int]]) -> None:
        self.runs, self.where = len(known), ""
        names = [n for n in known[0] if len({k[n] for k in known}) > 1]
        self.table: dict[tuple[int, ...], str] = {}
        for count in range(1, DEEPEST + 1):
            for chosen in combinations_with_replacement(sorted(names), count):
                values = tuple(prod(k[n] for n in chosen) for k in known)
                for by in (1, 2, 4, 8):
                    if not any(v % by for v in values):
                        text = "*".join(chosen) + (f"/{by}" if by > 1 else "")
                        self.table.setdefault(tuple(v // by for v in values), text)
                for name in names if count < DEEPEST - 1 else ():
                    below = [k[name] for k in known]
                    if name in chosen or not all(below):
                        continue
                    if not any(v % d for v, d in zip(values, below, strict=True)):
                        text = "*".join(chosen) + f"/{name}"
                        whole = tuple(v // d for v, d in zip(values, below, strict=True))
                        self.table.setdefault(whole, text)
        self.found: dict[tuple[int, ...], str] = {}

    def __call__(self, values: tuple[int, ...]) -> str:
        if values not in self.found:
            self.found[values] = self._solve(values)
        return self.found[values]

    def _times(self, values: tuple[int, ...]) -> str | None:
        if values in self.table:
            return self.table[values]
        for times in (2, 3, 4, 5, 6, 8, 9, 12, 16):
            part = tuple(v // times for v in values)
            if not any(v % times for v in values) and part in self.table:
                return f"{times}*{self.table[part]}"
        return None

    def _solve(self, values: tuple[int, ...]) -> str:
        if len({*values}) == 1:
            return str(values[0])
        alone = self._times(values)
        if alone is not None:
            return alone
        for other, text in self.table.items():
            rest = tuple(v - o for v, o in zip(values, other, strict=True))
            if min(rest) <= 0 and len({*rest}) > 1:
                continue
            last = str(rest[0]) if len({*rest}) == 1 else self._times(rest)
            if last is not None:
                return f"{text}+{last}"
        raise SystemExit(f"no sum of products is {values} of {self.where}")


def program(cls: str, recordings: Sequence[Recording], head: Sequence[str]) -> str:
    """The text of a program."""
    rolls = [numbered(rolled(one.events)) for one in recordings]
    first = rolls[0]
    for other in rolls[1:]:
        for a, b in zip(first, other, strict=False):
            if skeleton(a) != skeleton(b):
                raise SystemExit(f"{cls}: recordings differ:\n  {skeleton(a)}\n  {skeleton(b)}")
        assert len(other) == len(first)
    solve = Solver([one.known for one in recordings])
    lines = [*head]
    for number, e in enumerate(first):
        if e.op == "free":
            if e.ins[0] in [n for before in first[:number] for n in before.outs]:
                lines[-1] += f" -{e.ins[0]}"
            continue
        words = []
        for key, value in e.words.items():
            if isinstance(value, tuple):
                words.append(f"{key}={value[1]}")
            elif isinstance(value, list):
                each = list(zip(*(roll[number].words[key] for roll in rolls), strict=True))
                solve.where = f"{e.op} {e.words.get('at', e.words.get('was', ''))} {each}"
                words.append(f"{key}={','.join(map(solve, each))}")
            elif value != "":
                words.append(f"{key}={value}")
        outs, ins = (",".join(map(str, one)) or "." for one in (e.outs, e.ins))
        lines.append(" ".join([outs, e.op, ins, *words]))
    return "\n".join([*lines, ""])


def numbered(events: list[Event]) -> list[Event]:
    """Number values as they come."""
    every = (n for e in events for n in (*e.outs, *e.ins))
    names = {n: i for i, n in enumerate(dict.fromkeys(every))}
    return [renamed(e, names) for e in events]


def skeleton(e: Event) -> Any:
    words = tuple((k, len(v) if isinstance(v, list) else v) for k, v in e.words.items())
    return e.op, tuple(e.outs), tuple(e.ins), words


def form(cls: str, draw: Any, head: Sequence[str]) -> str:
    """The text of one form of a class."""
    rnd, recordings = random.Random(5), []
    for _ in range(RUNS):
        config, sizes, lets, inputs = draw(rnd)
        one = recorded(cls, config, sizes, inputs)
        one.known |= lets
        for name in AS_WIDE:  # as the whole
            one.known.pop(name, None)
        recordings.append(one)
    return program(cls, recordings, head)


def main(names: Sequence[str]) -> None:
    for cls in names or CLASSES:
        text = folded([form(cls, draw, head) for draw, head in CLASSES[cls]])
        (OUT / f"{cls}.txt").write_text(text)
        print(cls, len(text.splitlines()), "lines", len(text), "characters")


if __name__ == "__main__":
    main(sys.argv[1:])
