"""Programs that were recorded from a class's library, and are played as those written by hand.

    40 linear 12 at=attn.to_q to=head*heads bias=1 -12

is a line: value 40 is made of value 12, which the source holds no more after it. Numbers are sums
of products of the config's fields and the sizes of a step. `7 each 31 at=blocks to=num_layers`
plays the lines to `next` for each block; those up to `leave` may be computed again, and value 31 is
7 of the next one. A line after @5 is in the first and the third form of the class alone.
tools/record_net.py writes them.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from math import prod
from typing import cast

from weighbridge.base.dtypes import TORCH, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import ParamKind
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

NETS = os.path.join(os.path.dirname(__file__), "nets")
SIZES = "batch", "frames", "height", "width", "text"
OWN = 2  # dots in the path of a block in a class's own list
Known = Mapping[str, float]


class RecordedStep(NamedTuple):
    """One line of a recorded program: an operation, its results, inputs and arguments, and the
    values it frees."""

    op: str
    outs: tuple[str, ...]
    ins: tuple[str, ...]
    words: Mapping[str, str]
    ends: tuple[str, ...]


class RecordedProgram(NamedTuple):
    """The lines of a recorded class for one kind of config, with the conditions on that config."""

    needs: list[str]
    lets: list[tuple[str, str]]
    steps: list[RecordedStep]


class LoopBody(NamedTuple):
    """The body of a loop over blocks: its arguments, its results, and its other inputs."""

    names: tuple[str, ...]
    steps: Sequence[RecordedStep]
    hands: tuple[str, ...]
    reads: tuple[str, ...]


@cache
def _read(cls: str) -> tuple[RecordedProgram, ...]:
    with open(os.path.join(NETS, f"{cls}.txt"), encoding="utf-8") as file:
        forms = [RecordedProgram([], [], []) for _ in range(int(next(file).split()[1]))]
        for line in file:
            guard, first, second, *words = (line if line[0] == "@" else f"@ {line}").split()
            mask = int(guard[1:] or "-1", 16)
            step = None if first in ("needs", "let") else _step(first, second, words)
            for form in (one for number, one in enumerate(forms) if mask >> number & 1):
                if step is not None:
                    form.steps.append(step)
                elif first == "needs":
                    form.needs.extend((second, *words))
                else:
                    form.lets.append((second, words[0]))
    return tuple(forms)


def _step(outs: str, op: str, after: list[str]) -> RecordedStep:
    ins, *words = after
    pairs = (word.partition("=") for word in words if "=" in word)
    return RecordedStep(
        op,
        _names(outs),
        _names(ins),
        {name: value for name, _, value in pairs},
        tuple(word[1:] for word in words if "=" not in word),
    )


def _names(text: str) -> tuple[str, ...]:
    return () if text == "." else tuple(text.split(","))


def number(text: str, sizes: Known) -> int:
    """Return the value of an expression such as 2*model_dim+text/2, with names from `sizes`."""
    total = 0.0
    for term in text.split("+"):
        above, *below = term.split("/")
        value = prod(
            int(one) if one.lstrip("-").isdigit() else sizes[one] for one in above.split("*")
        )
        for one in below:
            value //= int(one) if one.isdigit() else sizes[one]
        total += value
    return int(total)


class Player:
    """One run of a recorded program: live values, the dtypes of all values, and numbers so far."""

    def __init__(self, sizes: Known) -> None:
        self.sizes = sizes
        self.met: dict[str, list[int]] = {}
        self.dtypes: dict[str, DType] = {}
        self.values: dict[str, Value] = {}

    def numbers(self, step: RecordedStep, word: str = "to") -> list[int]:
        text = step.words[word]
        if text not in self.met:
            self.met[text] = [number(one, self.sizes) for one in text.split(",") if one]
        return self.met[text]

    def play(self, n: NetPlace, steps: Sequence[RecordedStep]) -> None:
        """Run the lines of the program, or of a block, in order."""
        place = 0
        while place < len(steps):
            step, place = steps[place], place + 1
            if step.op == "each":
                begin, place = place, _after(steps, "next", place)
                self._each(n, step, steps[begin : place - 1])
            else:
                self._one(n, step)

    def _one(self, n: NetPlace, step: RecordedStep) -> None:
        values = self.values
        does = RESULTS.get(step.op)
        if does is not None:
            results = does(self, n, step, [values[one] for one in step.ins])
            outs = results if isinstance(results, list) else (results,)
            for name, value in zip(step.outs, outs, strict=False):
                values[name], self.dtypes[name] = value, value.tensor.dtype
        for name in step.ends:
            values.pop(name, None)

    def _each(self, n: NetPlace, loop: RecordedStep, steps: Sequence[RecordedStep]) -> None:
        """Run the blocks of a module list; the results of one are arguments of the next."""
        leave, [count] = _after(steps, "leave", 0), self.numbers(loop)
        body, after = _body(loop.outs, steps[: leave - 1]), steps[leave - 1 :]
        again: Iterable[tuple[str, str]] = ()
        for place in n.each(loop.words["at"], count):
            for name, source in again:
                self.values[name] = self.values.pop(source)
            again = list(zip(loop.outs, loop.ins, strict=True))
            self._block(place, body)
            self.play(n, after)

    def _block(self, place: NetPlace, body: LoopBody) -> None:
        seen = {one: self.values[one] for one in body.reads if one in self.values}

        def block(p: NetPlace, *arguments: Value) -> tuple[Value, ...]:
            player = copy(self)
            player.values = {**seen, **dict(zip(body.names, arguments, strict=True))}
            player.play(p, body.steps)
            return tuple(player.values[one] for one in body.hands)

        entering = tuple(self.values[name] for name in body.names)
        top = place.path.count(".") == OWN  # the class's own list, whose blocks it checkpoints
        outs = place.block(block, *entering) if top else block(place, *entering)
        self.values.update(zip(body.hands, outs, strict=True))


def _body(names: tuple[str, ...], steps: Sequence[RecordedStep]) -> LoopBody:
    gone = {one for step in steps for one in step.ends}
    hands = dict.fromkeys(one for step in steps for one in step.outs if one not in gone)
    reads = {one for step in steps for one in step.ins}.difference(names)
    return LoopBody(names, steps, tuple(hands), tuple(reads))


def _after(steps: Sequence[RecordedStep], op: str, place: int) -> int:
    """Return the index after the next line whose operation is `op`."""
    return 1 + next(i for i in range(place, len(steps)) if steps[i].op == op)


# ---- operations

PLAIN: Mapping[str, Callable[..., Value]] = {
    "mul": Value.__mul__,
    "add": Value.__add__,
    "sub": Value.__sub__,
    "div": Value.__truediv__,
    "act": Value.act,
    "power": Value.power,
    "mean": Value.mean,
    "rsqrt": Value.rsqrt,
    "softmax": Value.softmax,
    "written": Value.written,
}
SHAPED: Mapping[str, Callable[..., Value]] = {
    "view": Value.view,
    "part": Value.part,
    "copy": Value.copy,
}


def _plain(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    return PLAIN[step.op](*xs)


def _shaped(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    return SHAPED[step.op](xs[0], *player.numbers(step))


def _split(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> list[Value]:
    return xs[0].split(*player.numbers(step), dim=int(step.words["dim"]))


def _sends(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> list[Value]:
    n.run.m.sends = step.words.get("what", "") if n.run.attention_away else ""
    return []


def _cast(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    like = step.words.get("like")
    return xs[0].to(_dtype(n, step) if like is None else player.dtypes[like])


def _dtype(n: NetPlace, step: RecordedStep) -> DType:
    return TORCH[step.words["dtype"]] if "dtype" in step.words else n.run.dtype


def _new(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    """Return a new tensor for a kernel's result; it follows the first input that needs a gradient
    in that dtype."""
    shape, dtype = player.numbers(step), _dtype(n, step)
    read = next((x for x in xs if x.tensor.requires_grad and x.dtype == dtype), None)
    return n.run.new(*shape, dtype=dtype) if read is None else read.resized(*shape)


def _attend(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    batch, heads, tokens, width = player.numbers(step)
    seen = player.numbers(step, "keys")[0]
    rows = zip(xs, (tokens, seen, seen), strict=False)
    q, k, v = (x.view(batch, count, x.numel // (batch * count)) for x, count in rows)
    bias = next((x for x in xs[3:] if x.dtype != TORCH["bool"]), None)
    masked, first = len(xs) > 3, "first" in step.words
    out = attend(q, k, v, heads, masked=masked, first=first, bias=bias)
    return out.view(batch, heads, tokens, width)


def _conv(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    [out], words = player.numbers(step), step.words
    kernel, stride, pad = (tuple(player.numbers(step, one)) for one in ("kernel", "stride", "pad"))
    flags = {"bias": "bias" in words, "last": "last" in words}
    groups = player.numbers(step, "groups")[0] if "groups" in words else 1
    return n.conv(words["at"], xs[0], out, kernel, stride, pad, groups=groups, **flags)


def _norm(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    name, affine = step.words["at"], step.words["at"] != "-"
    if step.op == "rms_norm":
        return n.rms_norm(name, xs[0], affine=affine, how="torch")
    dense = "strided" not in step.words
    return n.layer_norm(name, xs[0], affine=affine, bias="bias" in step.words, dense=dense)


def _linear(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    return n.linear(step.words["at"], xs[0], player.numbers(step)[0], "bias" in step.words)


def _stored(player: Player, n: NetPlace, step: RecordedStep, xs: list[Value]) -> Value:
    """Return a parameter or buffer of a module, or rows of its embedding table."""
    name, shape = step.words["at"], player.numbers(step)
    kind = cast("ParamKind", step.words.get("kind", "other"))
    if step.op == "embedding":
        return n.embedding(name, *shape)
    return n.buffer(name, *shape) if step.op == "buffer" else n.value(name, *shape, kind=kind)


Result = Value | list[Value]
RESULTS: Mapping[str, Callable[[Player, NetPlace, RecordedStep, list[Value]], Result]] = {
    **dict.fromkeys(PLAIN, _plain),
    **dict.fromkeys(SHAPED, _shaped),
    "split": _split,
    "sends": _sends,
    **dict.fromkeys(("param", "buffer", "embedding", "declare"), _stored),
    **dict.fromkeys(("layer_norm", "rms_norm"), _norm),
    **dict.fromkeys(("new", "made"), _new),
    "given": lambda player, n, step, xs: n.run.constant(
        *player.numbers(step), dtype=_dtype(n, step)
    ),
    "cast": _cast,
    "linear": _linear,
    "conv": _conv,
    "attend": _attend,
    "scale": lambda player, n, step, xs: xs[0] * 1.0,
    "shift": lambda player, n, step, xs: xs[0] + 1.0,
    "result": lambda player, n, step, xs: xs[0].act("result"),
    "matmul": lambda player, n, step, xs: xs[0].matmul(xs[1], player.numbers(step)[0]),
    "cat": lambda player, n, step, xs: cat(xs, int(step.words["dim"])),
}


def _met(need: str, c: ComponentConfig, s: Sizes) -> bool:
    """Return whether a config and sizes satisfy condition `need` of a recorded program."""
    name, _, wanted = need.partition("=")
    have, other = (getattr(s, one, getattr(c, one)) for one in (name.rstrip("!"), wanted))
    text = ",".join(map(str, have)) if isinstance(have, list | tuple) else str(have)
    return (text == str(other or wanted)) != name.endswith("!")


def recorded(cls: str) -> Callable[[NetPlace, ComponentConfig, Sizes], Value]:
    """Return the recorded program of a class. It raises UnsupportedError for a config that no
    recording covers."""

    def program(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
        forms = _read(cls)
        lacking = [[need for need in form.needs if not _met(need, c, s)] for form in forms]
        chosen = min(range(len(forms)), key=lambda i: len(lacking[i]))
        if lacking[chosen]:
            name = lacking[chosen][0].split("=")[0].rstrip("!")
            why = f"{name}={getattr(c, name)}"
            raise UnsupportedError(sentence("no_config_of", cls=cls, why=why))
        _, lets, steps = forms[chosen]
        sizes = {one: getattr(s, one) for one in SIZES} | c.numbers()
        for name, text in lets:
            sizes[name] = sizes.get(name) or getattr(s, name, 0) or number(text, sizes)
        player = Player(sizes)
        player.play(n, steps)
        result = player.values[steps[-1].ins[0]]
        player.values.clear()  # the closures of recomputed blocks hold the player
        return result

    return program
