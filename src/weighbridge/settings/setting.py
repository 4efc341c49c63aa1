"""A setting, declared once: a typed field of its engine's class, with all that is known about it.

    class Vllm(Serving, CardSettings):
        max_num_seqs: Int = whole(1, 1 << 20)

    Vllm.max_num_seqs.most     the record           w = Vllm(max_num_seqs=64)
    w.max_num_seqs             64: int | None       w.said     {"max_num_seqs": 64}

An instance stores only what the user set: None always means unset, 0 and False are values. Command
line, requests, schemas, the page and launch lines are derived from the record. Its texts are in
base/words/settings.json, by the names of class and field.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Self,
    TypeVar,
    dataclass_transform,
    overload,
)

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.settings.kinds import (
    COUNT,
    FLAG,
    IMAGE,
    LAYERS,
    MEMORY,
    NUMBER,
    PAIRS,
    RELATIVE,
    RELEASE,
    SIZE,
    SPLIT,
    VERSION,
    WHOLE,
    WORD,
    WORDS,
    ValueKind,
)

if TYPE_CHECKING:  # names for types only, which a running program need not create
    from typing import TypedDict, Unpack

    class SettingFacts(TypedDict, total=False):
        """Optional facts of a setting, besides its kind and bounds."""

        name: str  # if Python reserves the field's name
        flags: tuple[str, ...]  # spellings other than --its-name
        worded: tuple[str, ...]  # keys of its texts, if no class declares it
        default: Any  # if it is the same for every model, version and device
        slider: tuple[int, int]  # range that is useful in practice, on a logarithmic scale
        launch: "tuple[LaunchFlag, ...]"  # flags of the engine's command line, if not ours
        instead: Mapping[str, str]  # word that is not a choice -> what to type for it
        idle: str  # why it changes no answer, if it does not


T = TypeVar("T")
MOST = float(1 << 50)  # limits the work that a user's number can cause
ENGINES = "weighbridge.engines."  # settings declared in an engine's folder are its own


class LaunchFlag:
    """A flag of an engine's own command line. `names`: its spellings; `reads`: the kind of its
    value if that is not the setting's (engines/launch/record.py; "false" for a switch that turns it
    off; "code" if the engine's own code parses it); `plain`: values that mean the default."""

    __slots__ = ("names", "plain", "reads")

    def __init__(self, *names: str, reads: str = "", plain: tuple[str, ...] = ()) -> None:
        self.names, self.reads, self.plain = names, reads, plain


def spelled(*names: str, reads: str = "", plain: tuple[str, ...] = ()) -> tuple[LaunchFlag, ...]:
    """Return a tuple of one launch flag with these `names`, to which callers add further ones."""
    return (LaunchFlag(*names, reads=reads, plain=plain),)


class SettingText:
    """A text about a setting for users, loaded when an interface first needs it; estimates never
    do."""

    __slots__ = ("name",)

    def __set_name__(self, _: type, name: str) -> None:
        self.name = name

    def __get__(self, setting: "Setting[Any]", _: type) -> str:
        from weighbridge.base.words import entries

        rows = (entries("settings").get(field, {}) for field in setting.worded)
        return next((str(row[self.name]) for row in rows if self.name in row), "")


class Setting(Generic[T]):
    """The record of one setting. Accessed on a class it is this record; on an instance, the value
    that the user set, else that of `Valued` or `Switch`."""

    kind: ValueKind
    name: str = ""
    owner: "type[Settings]"  # the class that declares it
    least: float = 0
    most: float = MOST
    choices: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    instead: Mapping[str, str] = MappingProxyType({})
    worded: tuple[str, ...] = ()  # Class.name keys of its texts, the last declared first
    help = SettingText()
    zh = SettingText()  # `help` in Chinese
    label = SettingText()  # on the page, if it does not follow from the name
    label_zh = SettingText()
    page = SettingText()  # what the page shows in place of `help`
    default: T | None = None
    slider: tuple[int, int] | None = None
    launch: tuple[LaunchFlag, ...] | None = None
    idle: str = ""
    unset: ClassVar[bool | None] = None  # an instance's value if the user set none

    def __init__(
        self,
        kind: ValueKind,
        least: float = 0,
        most: float = MOST,
        choices: tuple[str, ...] = (),
        **facts: "Unpack[SettingFacts]",
    ) -> None:
        self.kind, self.least, self.most, self.choices = kind, least, most, choices
        vars(self).update(facts)

    def __set_name__(self, owner: "type[Settings]", name: str) -> None:
        vars(self).setdefault("name", name)
        vars(self).setdefault("owner", owner)
        vars(self)["worded"] = (f"{owner.__name__}.{name}", *self.worded)

    def but(self, **facts: "Unpack[SettingFacts]") -> Self:
        """Return a copy with `facts` changed, for another engine or task."""
        changed = copy(self)
        vars(changed).update(facts)
        return changed

    @property
    def flag(self) -> str:
        """Return weighbridge's own option, as its command line spells it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def written(self) -> str:
        """Return the flag of the setting in a launch line."""
        return self.launch[0].names[0] if self.launch else (*self.flags, self.flag)[0]

    @property
    def section(self) -> str:
        """Return the title of the section that lists the setting."""
        return self.owner.TITLE

    def value(self, written: Any) -> T:
        """Return `written` parsed as a valid value. Raises UsageError with the flag if it is not
        one."""
        try:
            read = self.kind.read(written)
        except (TypeError, ValueError, OverflowError):
            raise self._no_value(written) from None
        if self.choices:
            read = self._choice(read, written)
        elif isinstance(read, int | float) and not self.least <= read <= self.most:
            if read != read:
                raise self._no_value(written)
            key, bound = ("least", self.least) if read < self.least else ("most", self.most)
            line = sentence(
                key,
                flag=self.flag,
                bound=(str(int(bound)) if bound == int(bound) else f"{bound:g}"),
                value=written,
            )
            raise UsageError(line)
        value: T = read
        return value

    def _choice(self, read: str, value: Any) -> str:
        """Return the choice as declared, for `read` in any case. Raises UsageError if misspelled,
        UnsupportedError if like none: it may be a real word that is missing here."""
        spelled = {choice.lower(): choice for choice in self.choices}
        if read.lower() not in spelled:
            known = ", ".join(self.choices)
            if read.lower() in self.instead:
                typed = self.instead[read.lower()]
                raise UsageError(
                    sentence("choice.instead", flag=self.flag, value=value, typed=typed)
                )
            near = ", ".join(spelled_like(read.lower(), spelled, 2, least=0.7))
            key, error = ("choice.near", UsageError) if near else ("choice", UnsupportedError)
            raise error(sentence(key, flag=self.flag, known=known, value=value, near=near))
        return spelled[read.lower()]

    def _no_value(self, written: Any) -> UsageError:
        """Return the error for a value that is not of the setting's kind."""
        kind = sentence(self.kind.says)
        return UsageError(sentence("no_value", flag=self.flag, kind=kind, value=written))


class Valued(Setting[T]):
    """A setting that is None if the user did not set it."""

    @overload
    def __get__(self, settings: None, owner: type) -> Self: ...
    @overload
    def __get__(self, settings: object, owner: type) -> T | None: ...
    def __get__(self, settings: object | None, owner: type) -> "Self | T | None":
        return self if settings is None else None

    if TYPE_CHECKING:  # types of the constructor; at run time a value in the instance comes first

        def __set__(self, settings: object, value: T | None) -> None: ...


class Switch(Setting[bool]):
    """A flag that is False if the user did not set it, and never None."""

    unset = False

    @overload
    def __get__(self, settings: None, owner: type) -> Self: ...
    @overload
    def __get__(self, settings: object, owner: type) -> bool: ...
    def __get__(self, settings: object | None, owner: type) -> "Self | bool":
        return self if settings is None else False

    if TYPE_CHECKING:

        def __set__(self, settings: object, value: bool | None) -> None: ...


Int = Valued[int]
Float = Valued[float]
Str = Valued[str]
Bool = Valued[bool]
Words = Valued[tuple[str, ...]]
Shares = Valued[tuple[float, ...]]
Pixels = Valued[tuple[int, int]]


def whole(least: float = 0, most: float = MOST, **facts: "Unpack[SettingFacts]") -> Int:
    """Declare a whole number."""
    return Valued(WHOLE, least, most, **facts)


def count(least: float = 0, most: float = MOST, **facts: "Unpack[SettingFacts]") -> Int:
    """Declare a number that may be written 8k or 8K."""
    return Valued(COUNT, least, most, **facts)


def number(least: float = 0, most: float = MOST, **facts: "Unpack[SettingFacts]") -> Float:
    """Declare a number that may have a fraction."""
    return Valued(NUMBER, least, most, **facts)


def size(least: float = 0, **facts: "Unpack[SettingFacts]") -> Int:
    """Declare a number of bytes, written 24GiB."""
    return Valued(SIZE, least, **facts)


def relative(**facts: "Unpack[SettingFacts]") -> Str:
    """Declare a size, 1GiB, or a share of another one, 10%; it stays as it was written."""
    return Valued(RELATIVE, **facts)


def memory(**facts: "Unpack[SettingFacts]") -> Str:
    """Declare a size of memory, 64GiB, or "local" for that of this machine."""
    return Valued(MEMORY, **facts)


def word(*choices: str, **facts: "Unpack[SettingFacts]") -> Str:
    """Declare a text, or one of `choices` if there are any."""
    return Valued(WORD, choices=choices, **facts)


def words(**facts: "Unpack[SettingFacts]") -> Words:
    """Declare a list of texts."""
    return Valued(WORDS, **facts)


def pairs(**facts: "Unpack[SettingFacts]") -> Words:
    """Declare a list of pairs such as a=b, which stay as they were written."""
    return Valued(PAIRS, **facts)


def version(**facts: "Unpack[SettingFacts]") -> Str:
    """Declare a version of a library."""
    return Valued(VERSION, **facts)


def release(**facts: "Unpack[SettingFacts]") -> Str:
    """Declare a version, or a date for a library that is released by date."""
    return Valued(RELEASE, **facts)


def flag(**facts: "Unpack[SettingFacts]") -> Bool:
    """Declare a boolean for which the engine has a default."""
    return Valued(FLAG, **facts)


def switch(**facts: "Unpack[SettingFacts]") -> Switch:
    """Declare a flag that is off by default."""
    return Switch(FLAG, **facts)


def image(**facts: "Unpack[SettingFacts]") -> Pixels:
    """Declare a size in pixels, (height, width)."""
    return Valued(IMAGE, **facts)


def split(**facts: "Unpack[SettingFacts]") -> Shares:
    """Declare the shares of a model that devices get."""
    return Valued(SPLIT, **facts)


def layers(**facts: "Unpack[SettingFacts]") -> Shares:
    """Return a setting whose value is the number of layers per pipeline stage."""
    return Valued(LAYERS, **facts)


@dataclass_transform(kw_only_default=True)
class Settings:
    """The values that a user set. Subclasses declare settings; each subclass is one or several
    sections of a form."""

    TITLE: ClassVar[str] = ""
    TITLE_ZH: ClassVar[str] = ""  # if it differs in Chinese

    def __init_subclass__(cls) -> None:
        if "TITLE" in vars(cls) and "TITLE_ZH" not in vars(cls):
            cls.TITLE_ZH = cls.TITLE

    def __init__(self, **values: Any) -> None:
        known = fields(type(self))
        for name, value in values.items():
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no setting {name!r}")
            if value is not known[name].unset:
                vars(self)[name] = value

    @property
    def said(self) -> Mapping[str, Any]:
        """Return the values that the user set, by setting name."""
        return vars(self)

    def but(self, **changes: Any) -> Self:
        """Return a copy with these settings changed; None resets one to unset."""
        return type(self)(**{**vars(self), **changes})

    __replace__ = but  # copy.replace, from Python 3.13

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: settings are not changed; make others with `but`")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), frozenset(vars(self).items())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in vars(self).items())})"


_FIELDS: dict[type, Mapping[str, Setting[Any]]] = {}


def fields(declared: type[Settings]) -> Mapping[str, Setting[Any]]:
    """Return the settings of a class by name: those of its first parent first, its own last."""
    if declared not in _FIELDS:
        names = dict.fromkeys(_names(declared))
        _FIELDS[declared] = {name: getattr(declared, name) for name in names}
    return _FIELDS[declared]


def _names(declared: type[Settings]) -> Iterator[str]:
    for base in declared.__bases__:
        if issubclass(base, Settings):
            yield from fields(base)
    yield from (name for name, one in vars(declared).items() if isinstance(one, Setting))


def launched(declared: type[Settings]) -> Iterator[tuple[Setting[Any], LaunchFlag]]:
    """Yield (setting, flag) for each flag of the engine's own command line. A setting declared in
    an engine's folder without `launch` has weighbridge's spelling."""
    for setting in fields(declared).values():
        if setting.launch is not None:
            yield from ((setting, one) for one in setting.launch)
        elif setting.owner.__module__.startswith(ENGINES):
            yield setting, LaunchFlag(*setting.flags, setting.flag)
