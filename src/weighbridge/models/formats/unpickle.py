"""The value that a pickle would build, without building it: nothing is imported, nothing is called.

A pickle is a program for a stack machine (PEP 307, 3154, 574; CPython Lib/pickletools.py names the
opcodes). Its dangerous instructions are the ones that look up a global and call it. Here a global
is only its name, and a call is a record of that name and its arguments, unless the name is one of
the few whose result we know: containers, and torch's ways to rebuild a tensor (`checkpoint`).

Values are None, numbers, text, tuples and the records below. They come from a stranger: a value may
contain itself, and a small pickle can describe a tree of 2^100 nodes by naming one node twice. So
nothing here hashes, compares or prints a container, and each limit is a limit on work.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.formats import MissingBytesError, Prefix
from weighbridge.models.formats.strict_json import collector_paused, short

MAX_STEPS = 2_000_000  # a tensor takes about 35 instructions, so 57,000 tensors of one file
MAX_STACK = 1 << 20
MAX_LINE = 1 << 12
MAX_LONG = 1 << 8  # bytes of an integer
MAX_PROTOCOL = 5


class Global(NamedTuple):
    """The name of a function or class that a pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        text = f"{self.module}.{self.name}"
        return text if text.isprintable() else repr(text)


class Sequence(list[Any]):
    """A pickle's list or set."""

    __slots__ = ()


class Map(list[tuple[Any, Any]]):
    """A pickle's dict: its pairs in order, including those with equal keys."""

    __slots__ = ()


class PickledCall:
    """A call that was not run, and what the pickle would then add to its result.

    The keys of `contents` are None for its state (what `__setstate__` would get).
    """

    __slots__ = ("arguments", "contents", "function")

    def __init__(self, function: Any, arguments: Any) -> None:
        self.function = function
        self.arguments = arguments
        self.contents: list[tuple[Any, Any]] = []


Known = Callable[[Global, Any], Any]
Persistent = Callable[[Any], Any]


def no_known(function: Global, arguments: Any) -> Any:
    """Return a record of a call, for any function."""
    return PickledCall(function, arguments)


def no_persistent(identity: Any) -> Any:
    raise BadFileError(sentence("pickle.outside"))


def unpickle(
    prefix: Prefix, known: Known = no_known, persistent: Persistent = no_persistent
) -> Any:
    """Return the value of the pickle at the prefix's position; the position moves to its end.

    `known` gives the result of a call by name; `persistent` that of a persistent id.
    """
    with collector_paused():
        return _run(_Machine(prefix, known, persistent), prefix)


def _run(machine: "_Machine", prefix: Prefix) -> Any:
    data = prefix.data
    for _ in range(MAX_STEPS):
        position = prefix.position
        if position >= len(data):
            raise MissingBytesError(position + 1)
        prefix.position = position + 1
        if data[position] == STOP:
            return machine.pop()
        instruction = INSTRUCTIONS.get(chr(data[position]))
        if instruction is None:
            raise BadFileError(sentence("pickle.opcode", opcode=data[position], position=position))
        instruction(machine)
    raise BadFileError(sentence("pickle.long", most=MAX_STEPS))


class _Machine:
    """The stack of values, the marks on it, and the memo."""

    __slots__ = ("copied", "known", "marks", "memo", "persistent", "prefix", "stack")

    def __init__(self, prefix: Prefix, known: Known, persistent: Persistent) -> None:
        self.prefix = prefix
        self.known = known
        self.persistent = persistent
        self.copied = 0  # items of containers that calls have made of others
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        if len(self.stack) >= MAX_STACK:
            raise BadFileError(sentence("pickle.stack", most=MAX_STACK))
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise BadFileError(sentence("pickle.empty"))
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise BadFileError(sentence("pickle.mark"))
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def number(self, layout: Struct) -> Any:
        return layout.unpack_from(self.prefix.data, self.prefix.skip(layout.size))[0]

    def line(self) -> str:
        """Return text up to the end of the line: instructions of protocol 0, names of globals."""
        data, start = self.prefix.data, self.prefix.position
        end = data.find(b"\n", start, start + MAX_LINE)
        if end < 0:
            if len(data) < start + MAX_LINE:
                raise MissingBytesError(len(data) + 1)
            raise BadFileError(sentence("pickle.line", most=MAX_LINE))
        self.prefix.position = end + 1
        return data[start:end].decode(errors="replace")

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise BadFileError(sentence("pickle.recall", index=index))
        self.push(self.memo[index])

    def call(self, function: Any, arguments: Any) -> None:
        named = isinstance(function, Global)
        result = self.known(function, arguments) if named else PickledCall(function, arguments)
        if isinstance(
            result, Map | Sequence
        ):  # one list, recalled for a few bytes, copied each time
            self.copied += len(result)
            if self.copied > MAX_STEPS:
                raise BadFileError(sentence("pickle.copies", most=MAX_STEPS))
        self.push(result)


U8, U16, I32, U32, U64, F64 = (Struct(code) for code in ("<B", "<H", "<i", "<I", "<Q", ">d"))
STOP = ord(".")
Instruction = Callable[[_Machine], None]


def _constant(value: Any) -> Instruction:
    return lambda machine: machine.push(value)


def _number(layout: Struct) -> Instruction:
    return lambda machine: machine.push(machine.number(layout))


def _text(layout: Struct) -> Instruction:
    """Return an instruction that pushes text or bytes after their length; bytes are Python 2's
    text."""
    return lambda machine: machine.push(
        machine.prefix.take(machine.number(layout)).decode(errors="replace")
    )


def _long(layout: Struct) -> Instruction:
    def instruction(machine: _Machine) -> None:
        length = machine.number(layout)
        if not 0 <= length <= MAX_LONG:
            raise BadFileError(sentence("pickle.integer", length=length))
        machine.push(int.from_bytes(machine.prefix.take(length), "little", signed=True))

    return instruction


def _parsed(parse: Callable[[str], Any]) -> Instruction:
    def instruction(machine: _Machine) -> None:
        text = machine.line()
        try:
            machine.push(parse(text))
        except ValueError:
            raise BadFileError(sentence("pickle.number", text=short(text))) from None

    return instruction


def _int_or_bool(text: str) -> int | bool:
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _tuple_of(count: int) -> Instruction:
    def instruction(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(values)))

    return instruction


def _new(kind: Callable[[], Any]) -> Instruction:
    return lambda machine: machine.push(kind())


def _sequence(machine: _Machine) -> None:
    machine.push(Sequence(machine.pop_to_mark()))


def _map(machine: _Machine) -> None:
    values = machine.pop_to_mark()
    machine.push(Map())
    _set_items(machine, values)


def _append(machine: _Machine, values: list[Any]) -> None:
    target = machine.top()
    if isinstance(target, Sequence):
        target.extend(values)
    elif isinstance(target, PickledCall):
        target.contents += enumerate(values, len(target.contents))
    else:
        raise BadFileError(sentence("pickle.no_list"))


def _set_items(machine: _Machine, values: list[Any]) -> None:
    target = machine.top()
    if len(values) % 2 or not isinstance(target, Map | PickledCall):
        raise BadFileError(sentence("pickle.no_dict"))
    pairs = target if isinstance(target, Map) else target.contents
    pairs.extend(zip(values[::2], values[1::2], strict=True))


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _build(machine: _Machine) -> None:
    """Add state to an unknown object; states of known ones hold no tensors."""
    state, target = machine.pop(), machine.top()
    if isinstance(target, PickledCall):
        target.contents.append((None, state))


def _proto(machine: _Machine) -> None:
    version = machine.number(U8)
    if version > MAX_PROTOCOL:
        raise BadFileError(sentence("pickle.protocol", version=version, last=MAX_PROTOCOL))


def _pop(machine: _Machine) -> None:
    if machine.marks and len(machine.stack) == machine.marks[-1]:
        machine.marks.pop()
    else:
        machine.pop()


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise BadFileError(sentence("pickle.global"))
    machine.push(Global(module, name))


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _new_object_with_keywords(machine: _Machine) -> None:
    keywords, arguments, function = machine.pop(), machine.pop(), machine.pop()
    machine.call(function, (arguments, keywords))


def _object(machine: _Machine) -> None:
    function, *arguments = machine.pop_to_mark() or [None]
    machine.call(function, tuple(arguments))


def _instance(machine: _Machine) -> None:
    function = Global(machine.line(), machine.line())
    machine.call(function, tuple(machine.pop_to_mark()))


def _frame(machine: _Machine) -> None:
    machine.prefix.skip(8)  # a hint for reading ahead


def _index(machine: _Machine) -> int:
    text = machine.line()
    if not text.isdecimal() or len(text) > 10:
        raise BadFileError(sentence("pickle.memo", place=short(text)))
    return int(text)


def _store(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.top()


INSTRUCTIONS: dict[str, Instruction] = {  # by opcodes, as letters of Latin-1
    "(": lambda machine: machine.marks.append(len(machine.stack)),
    "0": _pop,
    "1": lambda machine: machine.pop_to_mark().clear(),
    "2": lambda machine: machine.push(machine.top()),
    "F": _parsed(float),
    "G": _number(F64),
    "I": _parsed(_int_or_bool),
    "J": _number(I32),
    "K": _number(U8),
    "L": _parsed(lambda text: int(text.rstrip("L"))),
    "M": _number(U16),
    "N": _constant(None),
    "P": lambda machine: machine.push(machine.persistent(machine.line())),
    "Q": lambda machine: machine.push(machine.persistent(machine.pop())),
    "R": _reduce,
    "S": lambda machine: machine.push(machine.line()[1:-1]),
    "T": _text(U32),
    "U": _text(U8),
    "V": lambda machine: machine.push(machine.line()),
    "X": _text(U32),
    "a": lambda machine: _append(machine, [machine.pop()]),
    "b": _build,
    "c": lambda machine: machine.push(Global(machine.line(), machine.line())),
    "d": _map,
    "}": _new(Map),
    "e": lambda m: _append(m, m.pop_to_mark()),
    "g": lambda m: m.recall(_index(m)),
    "h": lambda m: m.recall(m.number(U8)),
    "i": _instance,
    "j": lambda m: m.recall(m.number(U32)),
    "l": _sequence,
    "]": _new(Sequence),
    "o": _object,
    "p": lambda m: _store(m, _index(m)),
    "q": lambda m: _store(m, m.number(U8)),
    "r": lambda m: _store(m, m.number(U32)),
    "s": _set_item,
    "t": lambda m: m.push(tuple(m.pop_to_mark())),
    ")": _constant(()),
    "u": lambda m: _set_items(m, m.pop_to_mark()),
    "B": _text(U32),
    "C": _text(U8),
    "\x80": _proto,
    "\x81": _reduce,  # NEWOBJ: cls.__new__(cls, *arguments)
    "\x85": _tuple_of(1),
    "\x86": _tuple_of(2),
    "\x87": _tuple_of(3),
    "\x88": _constant(True),
    "\x89": _constant(False),
    "\x8a": _long(U8),
    "\x8b": _long(I32),
    "\x8c": _text(U8),
    "\x8d": _text(U64),
    "\x8e": _text(U64),
    "\x8f": _new(Sequence),  # EMPTY_SET
    "\x90": lambda m: _append(m, m.pop_to_mark()),
    "\x91": _sequence,
    "\x92": _new_object_with_keywords,
    "\x93": _stack_global,
    "\x94": lambda m: _store(m, len(m.memo)),
    "\x95": _frame,
    "\x96": _text(U64),
}
