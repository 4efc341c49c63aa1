"""What a reader takes of a document, and what it leaves: key by key, then made a `PlannedRun`.

What no row of its table (tables.py) can say is read by the reader's own code, through `value` and
`take`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import dataclass, field
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown, spelled_like
from weighbridge.engines.launch.shell import OF_A_SCRIPT
from weighbridge.files.runfiles.beside import missing
from weighbridge.files.runfiles.document import Document, Path
from weighbridge.files.runfiles.record import PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.tables import KeyTable, table
from weighbridge.workload import TABLES

OFF = (None, False, "", 0, "none", "None", "null")  # values of a switch that is off
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "none", "null", "", "auto")
NEITHER = "{} is neither true nor false; it is counted as if it were not there"
VARIABLE = re.compile(r"\$\{?\w+|\{\{|<[\w -]+>")
HOME = re.compile(r"\$(?:HOME|\{HOME\})/")
ELSE = re.compile(r"\$\{\w+:?-([^{}$]*)\}")
ALSO = re.compile(r"\$\{\w+:?\+(?:[^{}]|\$\{\w+\})*\}")
# Prefixes of reasons in [memory]: with the key the run takes less than estimated, more, or either
LESS, MORE, UNSURE = "- ", "+ ", "+- "
FLAGS_OF = "its value is not in the text: what flags it holds is not read"
STRANGE = "it is no key that we know"
# Why a value is invalid for a setting, if the setting's name does not tell
MEANT: Mapping[str, str] = {"seq_len": "no number of tokens: write a whole number from 1"}
NESTED = 5  # defaults within defaults
MOST_UNREAD = 12
NEAR = 0.85  # least similarity of a suggested key: programs have many similar ones


@dataclass(slots=True, kw_only=True)
class KeyReading:
    """The keys of one document, or of its part below `base`, and the settings they mean."""

    document: Document
    keys: KeyTable
    task: str = "train"
    base: Path = ()
    settings: dict[str, Value] = field(default_factory=dict)
    understood: list[Understood] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    defaults: list[tuple[str, Value, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    odd: dict[str, str] = field(default_factory=dict)  # switches that are neither true nor false
    zero: tuple[str, Mapping[str, Any]] | None = None  # DeepSpeed's config: its name, its content
    cards: int = 0  # cards that train; `engine_cards`: an engine's besides; 0: not stated
    engine_cards: int = 0

    @property
    def data(self) -> Any:
        """Return the part of the document below `base`."""
        value = self.document.data
        for key in self.base:
            value = value[key]
        return value

    def value(self, key: str, default: Value = None) -> Value:
        """Return the value of a dotted key and mark it as read. A variable with a default
        (`${NAME:-x}`) has that default."""
        self.used.add(key)
        result = self.data
        for part in self._path(key):
            if not isinstance(result, dict) or part not in result:
                return default
            result = result[part]
        return filled(result) if isinstance(result, str) else result

    def peek(self, key: str, default: Value = None) -> Value:
        """Return the value of a dotted key without marking it as read."""
        unread = key not in self.used
        value = self.value(key, default)
        if unread:
            self.used.discard(key)
        return value

    def text(self, key: str) -> str:
        """Return a value as text; "" if it is missing, not a text, or a variable."""
        value = self.value(key)
        return value if isinstance(value, str) and not VARIABLE.search(value) else ""

    def on(self, key: str) -> bool:
        """Return whether a switch is present and on. A value that is neither true nor false becomes
        a note, unless the key is read otherwise."""
        value = self.value(key)
        if isinstance(value, str):
            if value.lower() not in (*YES, *NO) and not VARIABLE.search(value):
                self.odd[key] = value
            return value.lower() in YES
        return value not in OFF and value not in ([], {})

    def take(
        self, key: str, setting: str, read: Callable[[Any], Value] | None = None
    ) -> Value | None:
        """Read a key as our `setting` and return its value; None if the key is missing, empty or a
        variable. Raises UsageError for a value that the setting does not have."""
        value = self.value(key)
        if value is None or value == "":
            return None
        if isinstance(value, str) and VARIABLE.search(value):
            doubt = "" if setting == "model" else UNSURE  # without a model there is no estimate
            self.leave(key, f"{doubt}it is a variable, whose value is not in the file")
            return None
        meant = value if read is None else read(value)
        if meant is None:
            return None
        self.set(setting, meant, key)
        return meant

    def means(self, key: str, setting: str) -> Value | None:
        """Read a key by the [values] of the kind's table and return the value; None if these lack
        it."""
        return self.take(key, setting, lambda v: self.keys.values[key].get(str(v).lower()))

    def set(self, setting: str, value: Value, key: str) -> None:
        """Set our `setting` to the meaning of a key's value. Raises UsageError for a value that the
        setting does not have."""
        if setting != "model":
            try:
                TABLES[self.task][setting].value(value)
            except (UsageError, TypeError, ValueError):
                line = self.document.place((*self.base, *self._path(key))).line
                meant = MEANT.get(setting, f"no value of --{setting.replace('_', '-')}")
                raise UsageError(
                    sentence("file.bad_value", key=key, value=shown(value), meant=meant),
                    where=f"{self.document.name}:{line}",
                ) from None
            self.settings[setting] = value
        self.knows(key, setting)

    def knows(self, key: str, setting: str) -> None:
        """Mark a key as understood that decides a setting only together with others."""
        place = self.document.place((*self.base, *self._path(key)))
        self.understood.append(
            Understood(
                key=key,
                value=self.value(key),
                setting=setting,
                line=place.line,
                start=place.start,
                end=place.end,
            )
        )

    def leave(self, key: str, why: str) -> None:
        """Note that a key affects memory but is not understood. A reason that begins with `-` means
        that the run needs less with it than estimated, with `+` more."""
        self.used.add(key)
        place = self.document.place((*self.base, *self._path(key)))
        self.unread.append(
            Unread(
                key=key,
                line=place.line,
                why=why.removeprefix(UNSURE).removeprefix(LESS).removeprefix(MORE),
                lowers=why.startswith((LESS, UNSURE)),
                raises=why.startswith((MORE, UNSURE)),
            )
        )

    def lacks(self, key: str, name: str) -> None:
        """Note that a key names a missing file that affects memory."""
        line = self.document.place((*self.base, *self._path(key))).line
        self.unread.append(missing(name, key, line))

    def default(self, setting: str, value: Value, why: str) -> None:
        """Set a setting to the program's default, if the file does not state it."""
        if setting not in self.settings:
            self.settings[setting] = value
            self.defaults.append((setting, value, why))

    def plain(self) -> None:
        """Read all keys of the table that stand for one setting each."""
        for key, setting in self.keys.settings.items():
            if key not in self.used:
                self.take(key, setting)

    def run(self, model: str, *, refused: str = "", name: str = "") -> PlannedRun:
        """Return the run, with notes on all unread keys."""
        self._leave_others()
        return PlannedRun(
            task=self.task,
            model=model,
            name=name,
            settings=dict(self.settings),
            understood=tuple(sorted(self.understood, key=lambda one: one.line)),
            unread=tuple(sorted(self.unread, key=lambda one: one.line)),
            defaults=tuple(self.defaults),
            notes=tuple(self.notes),
            refused=refused,
            cards=self.cards,
            engine_cards=self.engine_cards,
            step=self.zero and (self.zero[0], self.zero[1].get("train_batch_size")),
        )

    def _neither(self) -> None:
        """Note the switches that are neither true nor false, unless they were read otherwise."""
        read = {one.key for one in self.understood} | {one.key for one in self.unread}
        for key in self.odd.keys() - read:
            self.leave(key, NEITHER.format(shown(self.odd[key])))

    def _leave_others(self) -> None:
        self._neither()
        unknown = []
        for key, value in self._leaves(self.data, ""):
            if key.startswith("$"):
                self.leave(key, f"{'' if key in OF_A_SCRIPT else UNSURE}{FLAGS_OF}")
                continue
            if self._known(key) or value in OFF or value in ([], {}):
                continue
            why = self._why(key)
            if why is None:
                unknown.append(key)
            else:
                self.leave(key, why)
        for key in unknown[:MOST_UNREAD]:
            self.leave(key, f"{STRANGE}{self._near(key)}")
        if len(unknown) > MOST_UNREAD:
            self.notes.append(sentence("file.more_keys", count=len(unknown) - MOST_UNREAD))

    def _near(self, key: str) -> str:
        """Return "did you mean" with a known key of similar spelling; "" without one."""
        known = {*self.keys.settings, *self.keys.ignored, *self.keys.memory, *self.used} - {key}
        names = sorted(name for name in known if "*" not in name)
        near = spelled_like(key, names, least=NEAR)
        return f"; did you mean {near[0]}?" if near else ""

    def _leaves(self, data: Any, above: str) -> Iterator[tuple[str, Any]]:
        """Yield (dotted key, value); mappings are entered if the table has a key within them."""
        if not isinstance(data, dict):
            return
        for name, value in data.items():
            key = f"{above}{name}"
            if isinstance(value, dict) and self._within(f"{key}."):
                yield from self._leaves(value, f"{key}.")
            else:
                yield key, value

    def _within(self, start: str) -> bool:
        named = (*self.used, *self.keys.ignored, *self.keys.memory, *self.keys.settings)
        return any(key.startswith(start) and key != f"{start}*" for key in named)

    def _known(self, key: str) -> bool:
        if key in self.used:
            return True
        ignored = any(named in self.keys.ignored for named in groups(key))
        return ignored and key not in self.keys.memory

    def _why(self, key: str) -> str | None:
        known = self.keys.memory
        return next((known[named] for named in groups(key) if named in known), None)

    @staticmethod
    def _path(key: str) -> Path:
        return tuple(key.split("."))


def groups(key: str) -> Iterator[str]:
    """Yield the patterns that may cover a key in a table: itself, `key.*`, and its beginnings, such
    as `swanlab_*` and `a.*`."""
    yield key
    yield f"{key}.*"
    for sign in ".", "_":
        for place in (place for place, letter in enumerate(key) if letter == sign):
            yield f"{key[: place + 1]}*"


def filled(text: str) -> str:
    """Return a text with the defaults of its variables: `${NAME:-x}` becomes x, `${NAME:+x}`
    nothing, and the user's home folder `~`."""
    for _ in range(NESTED):
        text = ELSE.sub(lambda match: match[1], text)
    return HOME.sub("~/", ALSO.sub("", text))


def reading(document: Document, keys: str, task: str = "train", base: Path = ()) -> KeyReading:
    """Return a reading of a document with the table of its kind; nothing is read yet."""
    return KeyReading(document=document, keys=table(keys), task=task, base=base)
