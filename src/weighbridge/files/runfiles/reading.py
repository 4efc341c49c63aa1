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

OFF = (None, False, "", 0, "none", "None", "null")  # a switch that is written and not on
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "none", "null", "", "auto")
NEITHER = "{} is neither true nor false; it is counted as if it were not there"
VARIABLE = re.compile(r"\$\{?\w+|\{\{|<[\w -]+>")
HOME = re.compile(r"\$(?:HOME|\{HOME\})/")
ELSE = re.compile(r"\$\{\w+:?-([^{}$]*)\}")
ALSO = re.compile(r"\$\{\w+:?\+(?:[^{}]|\$\{\w+\})*\}")
# Before a reason of [memory]: with the key the run takes less than is counted, more, or either
LESS, MORE, UNSURE = "- ", "+ ", "+- "
FLAGS_OF = "its value is not in the text: what flags it holds is not read"
STRANGE = "it is no key that we know"
# What a value is not that a setting has not, where its name does not say it
MEANT: Mapping[str, str] = {"seq_len": "no number of tokens: write a whole number from 1"}
NESTED = 5  # defaults within defaults
MOST_UNREAD = 12
NEAR = 0.85  # of the letters of a key: programs have many that are alike


@dataclass(slots=True, kw_only=True)
class KeyReading:
    """The keys of one document, below `base` where a part of it is read."""

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
    odd: dict[str, str] = field(default_factory=dict)  # switches with a value that is no switch's
    zero: tuple[str, Mapping[str, Any]] | None = None  # DeepSpeed's config, and where it stands
    cards: int = 0  # that train, and those of an engine beside them; 0: not said
    engine_cards: int = 0

    @property
    def data(self) -> Any:
        """Return the part of the document that is read."""
        value = self.document.data
        for key in self.base:
            value = value[key]
        return value

    def value(self, key: str, default: Value = None) -> Value:
        """Return the value of a dotted key, which counts as read from then on. A variable with a
        default of its own (`${NAME:-x}`) is that default."""
        self.used.add(key)
        result = self.data
        for part in self._path(key):
            if not isinstance(result, dict) or part not in result:
                return default
            result = result[part]
        return filled(result) if isinstance(result, str) else result

    def peek(self, key: str, default: Value = None) -> Value:
        """Return the value of a dotted key, which counts as read only if it did before."""
        unread = key not in self.used
        value = self.value(key, default)
        if unread:
            self.used.discard(key)
        return value

    def text(self, key: str) -> str:
        """Return a value as text; "" where it is not there, is no text, or is a variable."""
        value = self.value(key)
        return value if isinstance(value, str) and not VARIABLE.search(value) else ""

    def on(self, key: str) -> bool:
        """Tell whether a key is there and says yes. A word that says neither yes nor no is told,
        where nothing else is read of the key."""
        value = self.value(key)
        if isinstance(value, str):
            if value.lower() not in (*YES, *NO) and not VARIABLE.search(value):
                self.odd[key] = value
            return value.lower() in YES
        return value not in OFF and value not in ([], {})

    def take(
        self, key: str, setting: str, read: Callable[[Any], Value] | None = None
    ) -> Value | None:
        """Read the value of a key as a setting of ours, and return it; None where it is not there
        or says nothing. Raises UsageError for a value that the setting has not."""
        value = self.value(key)
        if value is None or value == "":
            return None
        if isinstance(value, str) and VARIABLE.search(value):
            doubt = "" if setting == "model" else UNSURE  # without a model there is no answer
            self.leave(key, f"{doubt}it is a variable, whose value is not in the file")
            return None
        meant = value if read is None else read(value)
        if meant is None:
            return None
        self.set(setting, meant, key)
        return meant

    def means(self, key: str, setting: str) -> Value | None:
        """Read a value that the table of the kind has words for; None where it has not."""
        return self.take(key, setting, lambda v: self.keys.values[key].get(str(v).lower()))

    def set(self, setting: str, value: Value, key: str) -> None:
        """Set a setting of ours to what a key means. Raises UsageError for what is none of its
        values."""
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
        """Count a key as understood that decides a setting together with others."""
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
        """Say that a key decides memory and was not understood; a `-` before the reason tells that
        with it the run takes less than is counted, a `+` that it takes more."""
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
        """Say that the file that a key names decides too, and is not there."""
        line = self.document.place((*self.base, *self._path(key))).line
        self.unread.append(missing(name, key, line))

    def default(self, setting: str, value: Value, why: str) -> None:
        """Take what the program does where the file says nothing of a size that decides."""
        if setting not in self.settings:
            self.settings[setting] = value
            self.defaults.append((setting, value, why))

    def plain(self) -> None:
        """Take all keys of the table that are a setting each."""
        for key, setting in self.keys.settings.items():
            if key not in self.used:
                self.take(key, setting)

    def run(self, model: str, *, refused: str = "", name: str = "") -> PlannedRun:
        """Return the run, and tell of every key that nobody read."""
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
        """Tell of switches that say neither yes nor no, and of which nothing else was read."""
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
        """Return the question whether a known key is meant that is written nearly so; "" where
        none is."""
        known = {*self.keys.settings, *self.keys.ignored, *self.keys.memory, *self.used} - {key}
        names = sorted(name for name in known if "*" not in name)
        near = spelled_like(key, names, least=NEAR)
        return f"; did you mean {near[0]}?" if near else ""

    def _leaves(self, data: Any, above: str) -> Iterator[tuple[str, Any]]:
        """Yield keys with their values; a mapping is looked into where a key within it is known."""
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
    """Yield the names by which a table may know a key: its own, those of the mappings that it is
    in, and what it begins with: `swanlab_*`, `a.*`."""
    yield key
    yield f"{key}.*"
    for sign in ".", "_":
        for place in (place for place, letter in enumerate(key) if letter == sign):
            yield f"{key[: place + 1]}*"


def filled(text: str) -> str:
    """Return a text with the defaults of its variables in their place: `${NAME:-x}` is x,
    `${NAME:+x}` nothing, and the folder of who runs it is `~`."""
    for _ in range(NESTED):
        text = ELSE.sub(lambda match: match[1], text)
    return HOME.sub("~/", ALSO.sub("", text))


def reading(document: Document, keys: str, task: str = "train", base: Path = ()) -> KeyReading:
    """Begin to read a document by the table of its kind."""
    return KeyReading(document=document, keys=table(keys), task=task, base=base)
