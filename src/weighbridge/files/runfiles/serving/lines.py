"""A launch line of an engine -> the run that it starts, whatever file it stands in.

The line is read by weighbridge.engines.launch. Here is what a file knows and a line does not: which
folder stands behind a mount, how many cards a container is given, and of which kind.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import NamedTuple, field, frozen_record, replace
from weighbridge.base.sentences import key_of
from weighbridge.base.units import parse_size, typed_size
from weighbridge.base.wording import shown, unsecret
from weighbridge.engines.launch import Launch, parse
from weighbridge.engines.launch.paths import model_of
from weighbridge.engines.launch.programs import (
    CONTAINERS,
    DEVICES,
    PROGRAMS,
    launched,
    listed,
    release_of,
)
from weighbridge.engines.launch.shell import CARDS, COUNTED, Command, commands, given_shell
from weighbridge.files.programs import images, programs
from weighbridge.files.runfiles.document import Path, Place
from weighbridge.files.runfiles.reading import VARIABLE, filled
from weighbridge.files.runfiles.record import PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.serving.card_parts import CardPart
from weighbridge.files.runfiles.serving.containers import by_flags, by_image
from weighbridge.files.runfiles.training.arrays import taken
from weighbridge.machines.accelerators.machines import MACHINE

SHELLS = ("sh", "bash", "zsh", "ash")
DETACHED = frozenset(("-d", "--detach", "-dit", "-itd", "-td"))
NO_LAUNCH = ("command.no_engine", "image_unknown", "command.no_program")
# Dynamo's workers take the flags of the engine that they wrap
WRAPPED = re.compile(r"python[\d.]* -m dynamo\.(vllm|sglang)\b")
OF_WRAPPER = re.compile(r"[ \t]--dyn-[\w-]+(?:[= ][ \t]*(?!-)[^\s\\]+)?")
OF_CONTAINER = re.compile(
    r"\$\((?P<name>\w+)\)|\$\{(?P<braced>\w+)(?::?-[^{}]*|:?\+(?P<also>[^{}]*))?\}|\$(?P<plain>\w+)"
)
NOT_READ = "not read, and it may take memory too: {}"
UNNAMED = "model"  # placeholder for a model that a variable names
NAMELESS = "a path that names no model; --model says which it is"


@frozen_record
class Container:
    """A program in a container, from a compose file or Kubernetes."""

    name: str = ""
    image: str = ""
    words: Sequence[str] = ()  # entry point and arguments
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)  # folder inside -> outside
    gpus: int | None = None
    devices: tuple[str, ...] = ()  # ids of the cards, if the file states them
    part: CardPart = CardPart()  # the kind of card, and the part of it
    memory: "HostLimit | Unread | None" = None
    line: int = 0
    path: Path = ()  # its path in the document
    replicas: int = 1  # number of copies that start
    nodes: Mapping[str, str] = field(default_factory=dict)  # labels of its machines


def of_container(container: Container) -> Iterator[PlannedRun]:
    """Yield the run of a container; nothing if it serves no model."""
    env = {name: filled(value) for name, value in container.env.items()}
    words = [filled(_with_variables_filled_in(word, env)) for word in container.words]
    text = _line(container, words)
    if not text:
        return
    seen = (f"export {n}={shlex.quote(v)}\n" for n, v in env.items() if _matters(n, v))
    name = container.name or "the container"
    several = f"{name}: {container.replicas} replicas are started; each takes what is said here"
    for run in of_text(
        "".join((*seen, text)),
        name=container.name,
        mounts=container.mounts,
        gpus=container.gpus,
        gpu=container.part.card,
        line=container.line,
    ):
        run = _of_image(within(run, container.memory), container)
        run = given_part(run, container.part)
        notes = (*run.notes, several) if container.replicas > 1 else run.notes
        yield replace(
            run,
            notes=notes,
            replicas=container.replicas,
            nodes=container.nodes,
            devices=stood_on(run, container.devices),
        )


def of_containers(containers: Iterable[Container]) -> Iterator[PlannedRun]:
    """Yield the runs of a file's containers. The first has a note on containers that may serve a
    model but could not be read."""
    runs: list[PlannedRun] = []
    unread = []
    for container in containers:
        runs_of_it = list(of_container(container))
        runs += runs_of_it
        if not runs_of_it and serves(container.image):
            unread.append(f"{container.name} ({filled(container.image)})")
    for number, run in enumerate(runs):
        notes = () if number or not unread else (NOT_READ.format(", ".join(unread)),)
        yield replace(run, notes=(*run.notes, *notes))


def serves(image: str) -> bool:
    """Return whether an image is known to serve models, even if weighbridge cannot read its
    runs."""
    name = image.rpartition("/")[2].lower()
    return any(part in name for part in images())


def _of_image(run: PlannedRun, container: Container) -> PlannedRun:
    """Return the run with the engine's release from the image's tag, unless its launch line states
    one."""
    if run.refused or "engine_version" in run.settings:
        return run
    launch = parse(run.command)
    image = filled(container.image)
    release = release_of(image, launch.engine)
    if release is None or "engine_version" in launch.settings:
        return run
    by_image = Understood(key="image", value=image, setting="engine_version", line=container.line)
    settings = {**run.settings, "engine_version": release}
    return replace(run, settings=settings, understood=(*run.understood, by_image))


def within(run: PlannedRun, memory: "HostLimit | Unread | None") -> PlannedRun:
    """Return the run with its container's host memory limit, or with a note why that limit is
    invalid."""
    if memory is None or run.refused:
        return run
    if isinstance(memory, Unread):
        return replace(run, unread=(*run.unread, memory))
    settings = {**run.settings, "ram": typed_size(memory.nbytes)}
    return replace(run, settings=settings, understood=(*run.understood, memory.limit))


def given_part(run: PlannedRun, part: CardPart) -> PlannedRun:
    """Return the run with its container's part of a card, and with notes on what is unknown of
    it."""
    run = replace(run, unread=(*run.unread, *part.unread))
    if part.memory is None or run.refused:
        return run
    settings = {**run.settings, part.memory.setting: part.memory.value}
    return replace(run, settings=settings, understood=(*run.understood, part.memory))


class HostLimit(NamedTuple):
    """A container's host memory limit in bytes, and its key in the file."""

    nbytes: int
    limit: Understood


NO_SIZE = "is no size of memory, and no limit is counted"
THOUSANDTHS = "is in thousandths of a byte, and no limit is counted"  # Kubernetes' m
NO_LIMIT = "is no limit: the container may take what its machine has; --ram says how much that is"
QUANTITY = re.compile(r"(?i)(\d{1,15}(?:\.\d{1,6})?) ?([kmgt])?(i)?b?")


def _bytes(quantity: "re.Match[str]", *, binary: bool) -> int:
    """Return the bytes of a quantity; `binary`: its letter is a power of 1024."""
    number, letter, of_1024 = quantity[1], quantity[2], binary or quantity[3]
    return parse_size(f"{number}{letter}{'i' if of_1024 else ''}B" if letter else f"{number}B")


def _no_size(quantity: "re.Match[str] | None", *, binary: bool) -> str:
    """Return why a text is no memory size, and how to write one."""
    if quantity is None:
        return f"{NO_SIZE}; write it as 64{'g' if binary else 'Gi'}"
    return f"{THOUSANDTHS}; write it as {quantity[1]}Mi"


def memory_limit(
    limit: object, *, key: str, place: Place, binary: bool
) -> HostLimit | Unread | None:
    """Return a container's host memory limit; None if the file states none, or has a variable; an
    Unread for an invalid size. `binary`: g means GiB, as in Docker; Kubernetes writes Gi for
    that."""
    text = filled(str(limit)).strip() if limit is not None else ""
    if not text or VARIABLE.search(text):
        return None
    match = QUANTITY.fullmatch(text)
    if match is None or (match[2] == "m" and not binary and not match[3]):
        why = f"{shown(text)} {_no_size(match, binary=binary)}"
        return Unread(key=key, line=place.line, why=why)
    nbytes = _bytes(match, binary=binary)
    understood = Understood(
        key=key, value=text, setting="ram", line=place.line, start=place.start, end=place.end
    )
    no_limit = Unread(key=key, line=place.line, why=f"{text:.20} {NO_LIMIT}")
    return HostLimit(nbytes, understood) if nbytes else no_limit


def _matters(name: str, value: str) -> bool:
    return name.startswith(("VLLM_", "SGLANG_", "PYTORCH_", "LLAMA_", *DEVICES)) and not (
        "$" in value or "KEY" in name or "TOKEN" in name
    )


def _with_variables_filled_in(word: str, env: Mapping[str, str]) -> str:
    """Return a word with the container's own variables filled in: $(NAME), $NAME, ${NAME},
    ${NAME:-x}, and x of ${NAME:+x} if NAME is set."""

    def value(match: re.Match[str]) -> str:
        set_to = env.get(match["name"] or match["braced"] or match["plain"], "")
        return (match["also"] or set_to) if set_to else match[0]

    return OF_CONTAINER.sub(value, word)


def _line(container: Container, words: Sequence[str]) -> str:
    """Return the line that launches an engine in a container, "" if none does."""
    image = filled(container.image)
    script = _script(words)
    if script is not None:
        script = _unwrapped(script)
        return script if _launches(script) else ""
    words = shlex.split(_unwrapped(shlex.join(words)))
    for text in (
        shlex.join(words),
        shlex.join(["docker", "run", *_entry(words, image)]) if image else "",
        by_image(image, words),
        "" if serves(image) else by_flags(words),
    ):
        if text and _launches(text):
            return text
    return ""


def _script(words: Sequence[str]) -> str | None:
    """Return the script in a shell's arguments (`sh -c TEXT NAME ARGUMENTS`), without branches that
    it does not take; None if no shell starts."""
    if not words or words[0].rpartition("/")[2] not in SHELLS:
        return None
    return given_shell([taken(word) if "\n" in word else word for word in words])[1]


def _unwrapped(text: str) -> str:
    """Return a Dynamo worker's command line as one of the engine that it wraps."""
    if not WRAPPED.search(text):
        return text
    return WRAPPED.sub(lambda match: programs()[match[1]].module, OF_WRAPPER.sub("", text))


def _entry(words: Sequence[str], image: str) -> list[str]:
    """Return a container's arguments for docker; if the first word has no dash, it is the
    program."""
    if words and not words[0].startswith("-"):
        return ["--entrypoint", words[0], image, *words[1:]]
    return [image, *words]


def _launches(text: str) -> bool:
    """Return whether a text launches an engine, even with errors, which are reported later."""
    try:
        parse(text)
    except UnsupportedError:
        return True
    except UsageError as error:
        return error.key not in NO_LAUNCH
    return True


OFFLOADED = re.compile(r"\s--kt-(?:method|weight|cpuinfer|num)")
RAY = re.compile(r"(?i)\bray\b")
EXPERTS = "KTransformers keeps experts in RAM (--kt-*), which is not answered yet"


def of_text(
    text: str,
    *,
    name: str = "",
    mounts: Mapping[str, str] = MappingProxyType({}),
    gpus: int | None = None,
    gpu: str = "",
    line: int = 0,
) -> Iterator[PlannedRun]:
    """Yield the run of each launch line in a text; for an invalid line a run with the reason."""
    for each in launch_lines(COUNTED.sub(CARDS, text)):
        yield _run(each, name, mounts, (gpus, gpu), line)


def stood_on(run: PlannedRun, seen: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the cards that a run uses, out of `seen` by its container or machine: the
    first of those that variables leave visible, one per rank."""
    if run.refused or not seen:
        return ()
    launch = parse(run.command.replace(CARDS, "1"))
    for name in DEVICES:
        left = launch.env.get(name, "")
        numbers = dict(enumerate(seen))
        if listed(left):
            seen = [
                numbers.get(int(one), one) if one.isdecimal() else one for one in left.split(",")
            ]
    return tuple(seen[: launch.devices or 1])


def at_once(text: str) -> Iterator[bool]:
    """Yield for each launch line whether it runs together with another: in the background (`&`,
    detached), or after one that does."""
    before = False
    for command in commands(text):
        if _launches(shlex.join(command.words)):
            by_itself = command.words[0] in CONTAINERS and not DETACHED.isdisjoint(command.words)
            before = before or command.goes_on or by_itself
            yield before


def launch_lines(text: str) -> Iterator[str]:
    """Yield each line of a text that launches an engine."""
    try:
        parse(text)
    except UnsupportedError:
        yield text
        return
    except UsageError as error:
        if error.key != "command.many":
            yield text
            return
        for command in commands(text):
            words = [f"{key}={value}" for key, value in command.env.items()]
            alone = shlex.join([*words, *command.words])
            if _launches(alone):
                yield alone
        return
    yield text


def launch_line(text: str) -> str:
    """Return the first launch line of a script, on one line and without secrets. Its variables are
    filled in, and those that the engine reads precede it. "" without one."""
    one = " ".join(text.replace("\\\n", " ").split())
    try:
        all_commands = list(commands(text))
        lines = [command for command in all_commands if _starts(command)]
        alone = len(all_commands) == 1 and "\n" not in text.strip().replace("\\\n", " ")
    except UsageError:
        return unsecret(one if "\n" not in text.strip() else _named_in(text))
    if alone or (not lines and len(all_commands) < 2):
        return unsecret(one)
    of_python = one if "\n" not in text and "(" in text else ""
    return "; ".join(map(_shown, lines)) or unsecret(_named_in(text) or of_python)


def _shown(command: Command) -> str:
    """Return a command with the variables that its engine reads, without secrets."""
    env = [f"{name}={value}" for name, value in command.env.items() if _matters(name, value)]
    return unsecret(shlex.join((*env, *command.words)))


def _starts(command: Command) -> bool:
    """Return whether a command launches an engine by itself."""
    try:
        launched(shlex.join(command.words))
    except UsageError:
        return False
    return True


def _named_in(text: str) -> str:
    """Return the first line of a text that names an engine's program; "" without one."""
    lines = (" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines())
    names = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in PROGRAMS))
    return next((line for line in lines if names.search(line) and line[:1] != "#"), "")


def _model(named: str, mounts: Mapping[str, str]) -> str:
    if named == UNNAMED:
        return ""
    return model_of(named, {inside: filled(outside) for inside, outside in mounts.items()})


def _run(
    text: str,
    name: str,
    mounts: Mapping[str, str],
    cards: tuple[int | None, str],
    line: int,
) -> PlannedRun:
    try:
        text, launch = _parsed(text)
    except UsageError as error:
        return PlannedRun(task="infer", name=name, refused=error.line, command=unsecret(text))
    seen = within_cards(text, cards[0])
    if seen != text:
        text, launch = seen, parse(seen.replace(CARDS, "1"))
    few = (stop.cards for stop in launch.stops if stop.cards is not None)
    ranks = next(few, launch.devices)
    model = _model(launch.model, {**mounts, **launch.mounts})
    unread = [] if model else [Unread(key=launch.model, line=line, why=NAMELESS)]
    settings = _cards(ranks, *cards)
    taken = tuple(
        Understood(key="the card", value=gpu, setting=setting, line=line)
        for setting, gpu in settings.items()
    )
    return PlannedRun(
        task="infer",
        model=model,
        name=name,
        command=unsecret(
            text if launch.mounts else text.replace(launch.model, model or launch.model)
        ),
        settings=settings,
        understood=taken,
        unread=tuple(unread),
        cards=ranks or cards[0] or 0,
        refused=EXPERTS if OFFLOADED.search(text) else "",
    )


def _parsed(text: str) -> tuple[str, Launch]:
    """Return (line, launch): a line and its parse, with a placeholder for a model in a variable."""
    try:
        return text, parse(text.replace(CARDS, "1"))
    except UsageError as error:
        if error.key != "no_value" or key_of(error.values["flag"]) != "line.model":
            raise
        text = text.replace(error.values["value"], UNNAMED)
        return text, parse(text)


def within_cards(text: str, cards: int | None) -> str:
    """Return the line of a container that has fewer cards than ranks, after the variable that
    limits what it sees."""
    if cards is None or not lacks_cards(text, cards):
        return text
    return f"export {DEVICES[0]}={','.join(map(str, range(cards))) or '-1'}\n{text}"


def lacks_cards(text: str, cards: int) -> bool:
    """Return whether a line starts more ranks than it has cards. Ranks on several machines do not
    count: those that Ray starts, or more than one machine holds."""
    ranks = parse(text.replace(CARDS, "1")).devices or 1
    return cards < ranks <= MACHINE and not RAY.search(text)


def _cards(ranks: int | None, gpus: int | None, gpu: str) -> dict[str, Value]:
    if not gpu:
        return {}
    count = ranks or gpus or 1
    return {"gpu": f"{gpu}:{count}" if count > 1 else gpu}
