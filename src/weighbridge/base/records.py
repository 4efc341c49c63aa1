"""Records: dataclasses and named tuples of the standard library, at a tenth of what making their
classes costs.

A start makes 30 to 120 classes of either. `dataclasses` writes, compiles and runs six methods for
each of its own at once, 2 ms a class: half of a cold answer; `typing.NamedTuple` is a sixth of
that. Here methods that all records have in common are shared, and what makes a record is written
when many of them are made. `@frozen_record` is `@dataclass(frozen=True, slots=True, kw_only=True)`.

To a type checker this module is `dataclasses` and `typing`, and `dataclasses.replace`, `fields`
and `asdict` take these records, too.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter, itemgetter
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, get_origin

try:  # what the standard library reads a place of a tuple by
    from _collections import _tuplegetter  # type: ignore[import-not-found]
except ImportError:

    def _tuplegetter(place: int, doc: str | None) -> property:
        return property(itemgetter(place), doc=doc)


NOTHING: Any = object()  # no default
FEW = 32  # instances of a class up to which writing its `__init__` costs more than it saves


class FrozenRecordError(AttributeError):
    """Raised on assignment to a field of a frozen record."""


class OnlyNamed:
    """The marker after which fields are keyword-only."""


class Field:
    """A field of a class: its default, and whether `repr` shows it."""

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
    """The `__dataclass_fields__` of a record class, made when the standard library reads it."""

    def __get__(self, record: object, kind: Any) -> Any:
        from dataclasses import MISSING, field, make_dataclass

        def known(value: Any) -> Any:
            return MISSING if value is NOTHING else value

        fields = []
        for name, one in kind.__fields__.items():
            default, factory = known(one.default), known(one.factory)
            field_of = field(default=default, default_factory=factory, repr=one.shown, kw_only=True)
            fields.append((name, one.type, field_of))
        standard: Any = make_dataclass(kind.__name__, fields)
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
    """Return the class as a record class; the settings are those of `dataclasses.dataclass`."""

    def made(cls: Any) -> Any:
        fields = dict(_fields(cls, kw_only))
        for name, one in fields.items():  # of a field the class keeps its default alone
            if name in vars(cls):
                delattr(cls, name)
            if one.default is not NOTHING and not slots:
                setattr(cls, name, one.default)
        kind = _slotted(cls, fields) if slots else cls
        kind.__fields__ = {**getattr(kind, "__fields__", {}), **fields}
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
    """Return the names of a record's fields; () for other values."""
    return tuple(getattr(type(value), "__fields__", ()))


def _fields(cls: Any, kw_only: bool) -> Iterator[tuple[str, Field]]:
    for name, kind in cls.__annotations__.items():
        if kind is OnlyNamed:
            kw_only = True
        elif get_origin(kind) is not ClassVar:
            value = vars(cls).get(name, NOTHING)
            one = value if isinstance(value, Field) else Field(default=value)
            one.named, one.type = kw_only, kind
            yield name, one


def _slotted(cls: Any, fields: dict[str, Field]) -> Any:
    """Return a new class with slots, which cannot be added later."""
    taken = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    body = {n: v for n, v in vars(cls).items() if n not in ("__dict__", "__weakref__")}
    body["__slots__"] = tuple(name for name in fields if name not in taken)
    slotted = type(cls)(cls.__name__, cls.__bases__, body)
    slotted.__qualname__ = cls.__qualname__
    return slotted


def _give(kind: Any, **members: Any) -> None:
    """Set the members that the class does not define itself."""
    for name, member in members.items():
        if vars(kind).get(name) is None:  # Python hashes nothing that says what equals it
            setattr(kind, name, member)


def _unwritten(kind: Any, frozen: bool) -> Callable[..., None]:
    """Return an `__init__` that sets field by field, and generates a faster one after many calls;
    that one rejects wrong arguments, too."""
    fields = tuple(kind.__fields__.items())
    named = [name for name, one in fields if not one.named]
    calls = 0

    def __init__(self: Any, /, *args: Any, **given: Any) -> None:  # noqa: N807
        nonlocal calls
        calls += 1
        values = dict(zip(named, args, strict=False))
        right = len(args) <= len(named) and not values.keys() & given.keys()
        values.update(given)
        for name, one in fields:
            if name not in values:
                right = right and (one.default is not NOTHING or one.factory is not NOTHING)
        if calls > FEW or not right or values.keys() - kind.__fields__.keys():
            kind.__init__ = written = _init(kind, frozen)
            written(self, *args, **given)
            return
        for name, one in fields:
            value = values.get(name, NOTHING)
            if value is NOTHING:
                value = one.default if one.factory is NOTHING else one.factory()
            object.__setattr__(self, name, value)
        if hasattr(kind, "__post_init__"):
            self.__post_init__()

    return __init__


def _init(kind: Any, frozen: bool) -> Any:
    """Return the generated `__init__` of a class: a parameter and an assignment per field."""
    known: dict[str, Any] = {"_nothing": NOTHING}
    positional, body = ["self"], list[str]()
    named = list[str]()
    for name, one in kind.__fields__.items():
        known[f"_default_{name}"], known[f"_make_{name}"] = one.default, one.factory
        default, value = "", name
        if one.default is not NOTHING:
            default = f"=_default_{name}"
        elif one.factory is not NOTHING:
            default, value = "=_nothing", f"_make_{name}() if {name} is _nothing else {name}"
        (named if one.named else positional).append(name + default)
        if frozen:
            known[f"_put_{name}"] = _putting(kind, name)
            body.append(f"_put_{name}(self, {value})")
        else:
            body.append(f"self.{name} = {value}")
    if hasattr(kind, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *named] if named else [])])
    lines = "\n ".join(body or ["pass"])
    exec(f"def __init__({parameters}):\n {lines}", known)
    init = known["__init__"]
    init.__qualname__ = f"{kind.__qualname__}.__init__"
    return init


def _putting(kind: Any, name: str) -> Callable[[Any, Any], None]:
    """Return a function that sets a field of a frozen record."""
    slot = getattr(kind, name, None)
    if isinstance(slot, MemberDescriptorType):
        return slot.__set__
    return lambda record, value: object.__setattr__(record, name, value)


def _key(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that returns the tuple of a record's values."""
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
    """Set the state from `copy` and `pickle`: a dictionary, or that and one for slots."""
    for part in state if isinstance(state, tuple) else (state,):
        for name, value in (part or {}).items():
            object.__setattr__(self, name, value)


# ---- named tuples


class _TupleKind(type):
    """The metaclass of classes with `NamedTuple` as their base: tuples with a name for each
    place."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        true = tuple(tuple if base is _Tuple else base for base in bases)
        kind: Any = type(name, true, {**body, "__slots__": ()})
        fields = tuple(kind.__annotations__)
        kind._fields = fields
        kind._field_defaults = {field: body[field] for field in fields if field in body}
        for place, field in enumerate(fields):
            setattr(kind, field, _tuplegetter(place, None))
        members = {
            "__match_args__": fields,
            "__new__": staticmethod(_unwritten_tuple(kind)),
            "_make": classmethod(_made_of),
            "_replace": _replaced,
            "_asdict": _fields_by_name,
            "__getnewargs__": _values,
            "__repr__": _shown_tuple,
        }
        for member, shared in members.items():
            if member not in body:
                setattr(kind, member, shared)
        return kind


_Tuple = type.__new__(_TupleKind, "NamedTuple", (), {})


class _NamedTuple:
    """The base that a class names to become a named tuple."""

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (_Tuple,)


def _unwritten_tuple(kind: Any) -> Callable[..., Any]:
    """Return a `__new__` that takes value by value, and generates a faster one after many calls;
    that one rejects wrong arguments, too."""
    fields, defaults = kind._fields, kind._field_defaults
    calls = 0

    def __new__(cls: Any, /, *args: Any, **named: Any) -> Any:  # noqa: N807
        nonlocal calls
        calls += 1
        left = fields[len(args) :]
        row = [named[n] if n in named else defaults.get(n, NOTHING) for n in left]
        values = (*args, *row)
        right = len(values) == len(fields) and named.keys() <= set(left)
        if calls > FEW or not right or any(value is NOTHING for value in row):
            written = _new(kind)
            kind.__new__ = staticmethod(written)
            return written(cls, *args, **named)
        return tuple.__new__(cls, values)

    return __new__


def _new(kind: Any) -> Any:
    """Return the generated `__new__` of a class of named tuples."""
    known: dict[str, Any] = {"_made": tuple.__new__}
    parameters = ["_cls"]
    for name in kind._fields:
        if name in kind._field_defaults:
            known[f"_default_{name}"] = kind._field_defaults[name]
            parameters.append(f"{name}=_default_{name}")
        else:
            parameters.append(name)
    values = "".join(f"{name}, " for name in kind._fields)
    exec(f"def __new__({', '.join(parameters)}):\n return _made(_cls, ({values}))", known)
    new = known["__new__"]
    new.__qualname__ = f"{kind.__qualname__}.__new__"
    return new


def _made_of(cls: Any, values: Iterable[Any]) -> Any:
    row = tuple.__new__(cls, values)
    if len(row) != len(cls._fields):
        raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(row)}")
    return row


def _replaced(self: Any, /, **changes: Any) -> Any:
    row = type(self)._make(map(changes.pop, self._fields, self))
    if changes:
        raise ValueError(f"Got unexpected field names: {list(changes)!r}")
    return row


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(self)


def _fields_by_name(self: Any) -> dict[str, Any]:
    return dict(zip(self._fields, self, strict=True))


def _shown_tuple(self: Any) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
    return f"{type(self).__name__}({values})"


if TYPE_CHECKING:
    from dataclasses import KW_ONLY as KW_ONLY
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import NamedTuple as NamedTuple
    from typing import TypeVar, dataclass_transform

    Kind = TypeVar("Kind")

    @dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
    def frozen_record(cls: type[Kind], /) -> type[Kind]:
        """Return the class as an immutable record: a frozen, slotted dataclass with keyword-only
        fields."""
else:
    NamedTuple = _NamedTuple()
    KW_ONLY, dataclass, field, replace = OnlyNamed, record, Field, changed
    frozen_record = dataclass(frozen=True, slots=True, kw_only=True)
