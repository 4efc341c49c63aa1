"""Records: dataclasses of the standard library, at a tenth of what making their classes costs.

A start makes 30 to 120 classes of records. `dataclasses` writes, compiles and runs six methods for
each of them at once, 2 ms a class: half of a cold answer. Here methods that all records have in
common are shared, and `__init__` is written when the first record of its class is made.

To a type checker this module is `dataclasses`, and `dataclasses.replace`, `fields` and `asdict`
take these records, too.
"""

from collections.abc import Callable, Iterator
from operator import attrgetter
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, get_origin

NOTHING: Any = object()  # no default


class FrozenRecordError(AttributeError):
    """A field of a frozen record was assigned to."""


class OnlyNamed:
    """The type of a line below which fields are given by name only."""


class Field:
    """What a class says of a field: what it holds unless told, and whether it is shown."""

    __slots__ = ("default", "factory", "named", "shown", "type")

    def __init__(
        self,
        *,
        default: Any = NOTHING,
        default_factory: Any = NOTHING,
        repr: bool = True,  # noqa: A002  # its name in the standard library
    ) -> None:
        self.default, self.factory, self.shown = default, default_factory, repr
        self.named = False
        self.type: Any = Any


class _Standard:
    """`__dataclass_fields__`: made of a class of records when the standard library asks for it."""

    def __get__(self, record: object, kind: Any) -> Any:
        from dataclasses import MISSING, field, make_dataclass

        def known(value: Any) -> Any:
            return MISSING if value is NOTHING else value

        found = []
        for name, one in kind.__fields__.items():
            default, factory = known(one.default), known(one.factory)
            made = field(default=default, default_factory=factory, repr=one.shown, kw_only=True)
            found.append((name, one.type, made))
        standard: Any = make_dataclass(kind.__name__, found)
        kind.__dataclass_fields__ = standard.__dataclass_fields__
        return kind.__dataclass_fields__


def record(
    cls: Any = None,
    /,
    *,
    eq: bool = True,
    frozen: bool = False,
    kw_only: bool = False,
    slots: bool = False,
) -> Any:
    """Return the class as one of records; the settings are those of `dataclasses.dataclass`."""

    def made(cls: Any) -> Any:
        own = dict(_fields(cls, kw_only))
        for name, one in own.items():  # of a field the class keeps its default alone
            if name in vars(cls):
                delattr(cls, name)
            if one.default is not NOTHING and not slots:
                setattr(cls, name, one.default)
        kind = _slotted(cls, own) if slots else cls
        kind.__fields__ = {**getattr(kind, "__fields__", {}), **own}
        kind.__dataclass_fields__ = _Standard()
        named = [name for name, one in kind.__fields__.items() if not one.named]
        _give(kind, __init__=_unwritten(kind, frozen), __repr__=_shown, __match_args__=tuple(named))
        if eq:
            key = _key(tuple(kind.__fields__))
            _give(kind, __eq__=_equal(key), __hash__=_hashed(key) if frozen else None)
        if frozen:
            kind.__setattr__ = kind.__delattr__ = _refused
            _give(kind, __setstate__=_restored)  # of a copy, and of what another process sends
        return kind

    return made if cls is None else made(cls)


def changed(record: Any, /, **changes: Any) -> Any:
    """Return a record of the same class with some fields changed."""
    for name in record.__fields__:
        if name not in changes:
            changes[name] = getattr(record, name)
    return type(record)(**changes)


def fields_of(value: Any) -> tuple[str, ...]:
    """Return the names of a record's fields; () of what is no record."""
    return tuple(getattr(type(value), "__fields__", ()))


def _fields(cls: Any, kw_only: bool) -> Iterator[tuple[str, Field]]:
    for name, kind in cls.__annotations__.items():
        if kind is OnlyNamed:
            kw_only = True
        elif get_origin(kind) is not ClassVar:
            given = vars(cls).get(name, NOTHING)
            one = given if isinstance(given, Field) else Field(default=given)
            one.named, one.type = kw_only, kind
            yield name, one


def _slotted(cls: Any, own: dict[str, Field]) -> Any:
    """Return the class with slots, which it can only be made with."""
    taken = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    body = {n: v for n, v in vars(cls).items() if n not in ("__dict__", "__weakref__")}
    body["__slots__"] = tuple(name for name in own if name not in taken)
    made = type(cls)(cls.__name__, cls.__bases__, body)
    made.__qualname__ = cls.__qualname__
    return made


def _give(kind: Any, **members: Any) -> None:
    """Set what the class does not define itself."""
    for name, member in members.items():
        if vars(kind).get(name) is None:  # Python hashes nothing that says what equals it
            setattr(kind, name, member)


def _unwritten(kind: Any, frozen: bool) -> Callable[..., None]:
    """Return an `__init__` that writes the true one when it is first called."""

    def __init__(self: Any, *args: Any, **given: Any) -> None:  # noqa: N807
        kind.__init__ = written = _init(kind, frozen)
        written(self, *args, **given)

    return __init__


def _init(kind: Any, frozen: bool) -> Any:
    """Write out the `__init__` of a class: a parameter and an assignment for each field."""
    known: dict[str, Any] = {"NOTHING": NOTHING}
    given, body = ["self"], list[str]()
    named = list[str]()
    for name, one in kind.__fields__.items():
        known[f"default_{name}"], known[f"make_{name}"] = one.default, one.factory
        default, value = "", name
        if one.default is not NOTHING:
            default = f"=default_{name}"
        elif one.factory is not NOTHING:
            default, value = "=NOTHING", f"make_{name}() if {name} is NOTHING else {name}"
        (named if one.named else given).append(name + default)
        if frozen:
            known[f"put_{name}"] = _putting(kind, name)
            body.append(f"put_{name}(self, {value})")
        else:
            body.append(f"self.{name} = {value}")
    if hasattr(kind, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*given, *(["*", *named] if named else [])])
    lines = "\n ".join(body or ["pass"])
    exec(f"def __init__({parameters}):\n {lines}", known)
    init = known["__init__"]
    init.__qualname__ = f"{kind.__qualname__}.__init__"
    return init


def _putting(kind: Any, name: str) -> Callable[[Any, Any], None]:
    """Return what sets a field of a frozen record."""
    slot = getattr(kind, name, None)
    if isinstance(slot, MemberDescriptorType):
        return slot.__set__
    return lambda record, value: object.__setattr__(record, name, value)


def _key(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what makes the tuple of a record's values."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple(getattr(record, name) for name in names)


def _equal(key: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, Any], bool]:
    def __eq__(self: Any, other: Any) -> bool:  # noqa: N807
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    return __eq__


def _hashed(key: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(key(self))

    return __hash__


def _shown(self: Any) -> str:
    fields = self.__fields__.items()
    values = (f"{name}={getattr(self, name)!r}" for name, one in fields if one.shown)
    return f"{type(self).__qualname__}({', '.join(values)})"


def _refused(self: Any, name: str, value: object = None) -> None:
    raise FrozenRecordError(f"{type(self).__name__} is frozen: {name} keeps its value")


def _restored(self: Any, state: Any) -> None:
    """Set what `copy` and `pickle` kept: a dictionary, or that and one of slots."""
    for kept in state if isinstance(state, tuple) else (state,):
        for name, value in (kept or {}).items():
            object.__setattr__(self, name, value)


if TYPE_CHECKING:
    from dataclasses import KW_ONLY as KW_ONLY
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:
    KW_ONLY, dataclass, field, replace = OnlyNamed, record, Field, changed
