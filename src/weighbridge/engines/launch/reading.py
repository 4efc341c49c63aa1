"""A command while it is parsed: what each flag did, until all are known."""

import re
from typing import Any

from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.records import dataclass, field
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.wording import spelled_like
from weighbridge.engines.launch.arguments import READERS, as_object, merged
from weighbridge.engines.launch.programs import visible
from weighbridge.engines.launch.record import (
    Dialect,
    Flag,
    GivenFlag,
    Launch,
    LaunchedProgram,
    Obstacle,
    Value,
)
from weighbridge.engines.launch.shell import OF_A_SCRIPT, is_variable

TOLD = 20  # unknown flags for which the nearest is searched
# Keys of flags that are not modelled but decide the estimate, either way: another kind of device, a
# file of settings, another config or class of the model
OPEN = frozenset(("other_device", "file_unread", "own_config", "model_config", "own_class"))
# Parts of flag names with which a card may hold fewer weights: their format, and where or in how
# many parts they are
OF_WEIGHTS = re.compile(
    r"weight|quant|type|bit|int\d|fp\d|load|cpu|host|disk|swap|layer|expert|moe|shard|parallel|split"
    r"|rank|node|device|gpu|model|draft|spec|lora|config"
)
# Flags of launches that also use other machines
_MACHINES = """
--nnodes --node-rank -r --dist-init-addr --nccl-init-addr --distributed-executor-backend
--data-parallel-size-local -dpl --data-parallel-backend -dpb --data-parallel-start-rank -dpr
--headless
"""
MACHINES = frozenset(_MACHINES.split())


@dataclass(slots=True, kw_only=True)
class CommandReading:
    """The state of parsing: filled by `take` flag by flag, then by the dialect's `finish`."""

    program: LaunchedProgram
    dialect: Dialect
    model: str | None = None
    revision: str | None = None
    devices: int | None = None
    settings: dict[str, Value] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    said: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)  # "@": name, value
    used: set[str] = field(default_factory=set)  # keys of `said` that a function has read
    words: list[str] = field(default_factory=list)  # words that belong to no flag
    ignored: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stops: list[Obstacle] = field(default_factory=list)
    unmodelled: list[str] = field(default_factory=list)  # keys of what is counted instead of flags
    stored_as: str = ""
    longest: bool = False
    given: set[str] = field(default_factory=set)

    def take(self, given: GivenFlag) -> None:
        flag = given.flag
        self.given.add(given.name)
        if not given.name:
            self.words.append(str(given.value))
        elif flag is None:
            self._not_known(given.name)
        elif flag.effect == "-":
            self.ignored.append(given.name)
        elif flag.effect == "@":
            self.said.setdefault(flag.detail, []).append((given.name, given.value))
        elif flag.effect == "=":
            self._set(flag, given)
        else:
            self._not_modelled(flag, given)

    def wrong(self, name: str, value: object, kind: str) -> UsageError:
        line = sentence("no_value", flag=name, kind=kind, value=f"{value}")
        hint = sentence("write_value") if "$" in f"{value}" else ""
        return ContradictionError(line, where=self.program.name, then=hint)

    def read(self, kind: str, name: str, value: object) -> Value:
        """Return the value as the engine parses it. Raises UsageError."""
        reader, key = READERS[kind]
        try:
            return reader(str(value))
        except ValueError:
            raise self.wrong(name, value, sentence(key)) from None

    def last(self, what: str) -> tuple[str, Any] | None:
        """Return (the flag as typed, its value); the last one wins."""
        self.used.add(what)
        values = self.said.get(what)
        return values[-1] if values else None

    def every(self, what: str) -> list[tuple[str, Any]]:
        self.used.add(what)
        return self.said.get(what, [])

    def merged(self, what: str) -> dict[str, Any]:
        """Return all JSON and dotted values of one flag, later ones over earlier ones."""
        self.used.add(what)
        whole: dict[str, Any] = {}
        for name, value in self.said.get(what, ()):
            try:
                whole = merged(whole, as_object(value))
            except ValueError:
                raise self.wrong(name, value, sentence("value.json")) from None
        return whole

    def _set(self, flag: Flag, given: GivenFlag) -> None:
        value = given.value
        if isinstance(value, bool):
            self.settings[flag.detail] = value is (flag.kind != "false")
            return
        text = str(value)
        if text.lower() in flag.plain:
            self.settings.pop(flag.detail, None)
            self.ignored.append(given.name)
            return
        self.settings[flag.detail] = self.read(flag.kind or "word", given.name, text)

    def _not_modelled(self, flag: Flag, given: GivenFlag) -> None:
        on = given.value is not False
        plain = str(given.value).lower() in flag.plain
        if plain or on is (flag.effect == "~"):
            self.ignored.append(given.name)
        else:
            why = self._counted(given.name, flag.detail)
            if flag.detail in OPEN:
                self.stops.append(Obstacle("either", why))

    def _counted(self, name: str, instead: str) -> str:
        """Note a flag that we do not model; return the sentence on what is counted instead."""
        self.unmodelled.append(instead)
        self.warn(why := sentence("not_modelled", name=name, reason=sentence(f"flag.{instead}")))
        return why

    def warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)

    def _not_known(self, name: str) -> None:
        if name in self.unknown:
            return
        self.unknown.append(name)
        close: list[str] = []
        if len(self.unknown) <= TOLD:
            close = spelled_like(name, self.dialect.flags)
        unknown = sentence("flag_unknown", name=name, engine=self.dialect.engine)
        if close:
            unknown = clauses(unknown, sentence("near", names=close[0]))
        self.warn(unknown)
        of_weights = any(map(OF_WEIGHTS.search, (name.lower(), *close)))
        self.stops.append(Obstacle("either" if of_weights else "beside", unknown))

    def _not_read(self) -> None:
        """Add an obstacle for unset variables in the place of flags: they may hold anything that
        decides."""
        for word in dict.fromkeys(filter(is_variable, self.words)):
            if word not in OF_A_SCRIPT:
                self.stops.append(Obstacle("either", sentence("may_hold_flags", word=word)))

    def unused(self) -> None:
        """Ignore flags that only mean something with another flag, which is missing."""
        for what, said in self.said.items():
            if what not in self.used:
                self.ignored += [name for name, _ in said]

    def environment(self) -> None:
        """Warn of the variables before the program that matter for memory; ignore the others."""
        for name in self.program.env:
            why = next((w for n, w in self.dialect.env.items() if name.startswith(n)), None)
            if why is None:
                self.ignored.append(name)
            elif why:
                self._counted(name, why)
        seen = visible(self.program.env, self.program.devices)
        self.devices = self.devices or seen
        if seen is not None and self.devices is not None and seen < self.devices:
            few = sentence("devices_left", count=self.devices, left=seen)
            alone = self.dialect.argparse and not MACHINES & self.given
            self.warn(few)
            stop = Obstacle("unknown", few, "contradiction")
            self.stops.append(stop._replace(answer="no", cards=seen) if alone else stop)

    def launch(self) -> Launch:
        """Return the launch. Raises UsageError if no model is named."""
        if not self.model:
            raise ContradictionError(sentence("command.no_model", program=self.program.name))
        if "$" in self.model:
            raise self.wrong(sentence("line.model"), self.model, sentence("value.path"))
        self._not_read()
        if self.program.version:
            self.settings["engine_version"] = self.program.version
        limit = re.fullmatch(r"(?i)([1-9]\d{0,14})([kmg]?)b?", self.program.memory)
        if limit is not None:  # Docker's letters are powers of 1,024
            self.settings["ram"] = f"{limit[1]}{limit[2] and limit[2].upper() + 'i'}B"
        return Launch(
            engine=self.dialect.engine,
            program=self.program.name,
            model=self.model,
            revision=self.revision,
            settings=self.settings,
            served=self.served,
            devices=self.devices,
            ignored=tuple(dict.fromkeys(self.ignored)),
            unknown=tuple(self.unknown),
            defaults=self.dialect.defaults(self),
            warnings=tuple(self.warnings),
            stops=tuple(self.stops),
            unmodelled=" ".join(dict.fromkeys(self.unmodelled)),
            stored_as=self.stored_as,
            longest=self.longest,
            given=frozenset(self.given),
            env=self.program.env,
            mounts=self.program.mounts,
        )
