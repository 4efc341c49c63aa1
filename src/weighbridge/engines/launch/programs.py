"""The program that a command launches, its engine, and its arguments.

A text is split as a shell splits it, into commands; the first that launches an engine is taken:

vllm serve ...                                  vllm
python -m vllm.entrypoints.openai.api_server    vllm
python -m sglang.launch_server, sglang serve    sglang
llama-server, llama-cli, ./build/bin/...        llama.cpp
docker run ... IMAGE[:TAG] ...                  what the image runs; its tag is the version
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence

from weighbridge.base.errors import ContradictionError, UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import either
from weighbridge.engines.engine import Engine
from weighbridge.engines.launch.record import Dialect, LaunchedProgram
from weighbridge.engines.launch.shell import ASSIGNED, Command, commands
from weighbridge.engines.stand_ins import STAND_INS, StandIn
from weighbridge.engines.table import ENGINES, record

# Engines with programs: those that were read, and those that others stand in for
_OWNERS: tuple[Engine | StandIn, ...] = (*ENGINES.values(), *STAND_INS.values())
# program -> its possible engines, the default first
PROGRAMS: Mapping[str, tuple[Engine | StandIn, ...]] = {
    name: tuple(each for each in _OWNERS if name in each.programs)
    for own in _OWNERS
    for name in own.programs
}
NOT_YET = {
    "ollama": "llama-server",
    "lms": "llama-server",
    "llama-bench": "llama-server",
    "llama-perplexity": "llama-server",
    "llama-embedding": "llama-server",
    "llama-swap": "llama-server",
}
# Words that may precede a program.
BEFORE = """
sudo env nohup time exec numactl taskset nice ionice stdbuf uv uvx poetry pipenv conda mamba
micromamba pixi srun mpirun setsid timeout command nsys systemd-run screen tmux start
"""
WRAPPERS = frozenset(BEFORE.split())
CONTAINERS = frozenset(("docker", "podman", "nerdctl"))
SHELLS = frozenset(("bash", "sh", "zsh"))
# docker run: flags without a value
ALONE = """
--detach --interactive --tty --rm --init --privileged --publish-all --read-only --quiet
--no-healthcheck --oom-kill-disable --sig-proxy --disable-content-trust --help --use-api-socket
"""
SWITCHES = frozenset(ALONE.split())
BEFORE_IT = 64  # words that are searched for a program after a wrapper
# pattern of an image's last name -> the program that it runs by default, or ""
IMAGES = tuple(image for own in _OWNERS for image in own.images.items())
# Words in names of published images; with other words in the name, the tag is its owner's release
_PUBLISHED = """
vllm openai sglang llama cpp server cpu rocm tpu neuron cuda cu xpu hpu gaudi ascend musa vulkan
intel jetson arm aarch amd x release repo nightly dev base runtime
"""
PUBLISHED = frozenset(_PUBLISHED.split())
# Each limits a process to the listed devices, of those that the others leave
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
OF_CONTAINERS = "NVIDIA_VISIBLE_DEVICES"  # NVIDIA's container toolkit; elsewhere nobody reads it
CDI = re.compile(r"(?:nvidia|amd)\.com/gpu=(?!all$)")  # --device, a card each


def launched(text: str, depth: int = 0) -> LaunchedProgram:
    """Return the one program of `text`. Raises UsageError if there is none, or several."""
    programs = [p for c in commands(text) if (p := _program(c, depth)) is not None]
    if not programs:
        raise ContradictionError(sentence("command.no_engine"))
    if len(programs) > 1:
        names = " and ".join(dict.fromkeys(p.name for p in programs))
        raise UsageError(sentence("command.many", count=len(programs), names=names))
    return programs[0]


def _program(command: Command, depth: int) -> LaunchedProgram | None:
    words = deque(command.words)
    env = dict(command.env)
    wrapped = bool(words) and _base(words[0]) in WRAPPERS | CONTAINERS
    for _ in range(min(len(words), BEFORE_IT)):
        known = None if wrapped and _named_alone(words) else _known(words, env, depth)
        if known is not None:
            return known
        word = words.popleft()
        assigned = ASSIGNED.fullmatch(word)
        if assigned:
            env[assigned[1]] = assigned[3]
        if not wrapped:
            return None
    return None


def _named_alone(words: Sequence[str]) -> bool:
    """Return whether a program is named but not run: `uv run --with vllm ...`."""
    needed = _subcommands(_base(words[0]))
    return bool(needed) and (len(words) < 2 or words[1] not in needed)


def _subcommands(program: str) -> tuple[str, ...]:
    """Return the subcommands by which a program launches a server; () without any."""
    return next((e.programs[program] for e in PROGRAMS.get(program, ())), ())


def _base(word: str) -> str:
    return re.split(r"[/\\]", word)[-1].removesuffix(".exe")


def _known(words: deque[str], env: Mapping[str, str], depth: int) -> LaunchedProgram | None:
    base, behind = _base(words[0]), list(words)[1:]
    if base in CONTAINERS and behind[:1] != [] and "run" in behind[:3]:
        return _container(behind[behind.index("run") + 1 :], env)
    if base in SHELLS and len(behind) > 1 and re.fullmatch("-[a-z]*c", behind[0]) and depth < 2:
        return launched(behind[1], depth + 1)
    if re.fullmatch(r"python[\d.]*|py", base):
        module = behind.index("-m") + 1 if "-m" in behind else 0  # or a script: koboldcpp.py
        if len(behind) <= module:
            return None
        base, behind = _base(behind[module]), behind[module + 1 :]
    if base in NOT_YET:
        raise UnsupportedError(sentence("command.not_yet", base=base, near=NOT_YET[base]))
    if base not in PROGRAMS:
        return None
    return _subcommand(base, behind, env)


def _subcommand(base: str, behind: Sequence[str], env: Mapping[str, str]) -> LaunchedProgram:
    needed, program = _subcommands(base), base
    begun = (words for words in needed if [*behind[: len(words.split())]] == words.split())
    verb = next(begun, None)
    if needed and verb is None:
        said = f"{base} {behind[0]}" if behind else base
        raise UsageError(sentence("command.no_server", words=said, base=base, needed=needed[0]))
    if verb:
        base, behind = f"{base} {verb}", behind[len(verb.split()) :]
    return LaunchedProgram(
        engine=_engine(program, behind), name=base, words=tuple(behind), env=dict(env)
    )


def _engine(program: str, words: Sequence[str]) -> str:
    """Return a program's engine; of those of one name, by flags that only one engine has."""
    first, *others = PROGRAMS[program]
    read = (e for e in others if isinstance(e, Engine))
    telling = (e.name for e in read if dialect(e).tells.intersection(words))
    return next(telling, first.name)


def dialect(engine: Engine) -> Dialect:
    """Return the dialect of the command line of an engine that was read."""
    spoken: Dialect = engine.home("dialect").DIALECT
    return spoken


def _container(words: Sequence[str], env: Mapping[str, str]) -> LaunchedProgram:
    """Return the program in a container: docker's own flags, then the image, then its command."""
    unread = deque(words)
    env, said = dict(env), {"--gpus": "", "--entrypoint": ""}
    mounts: dict[str, str] = {}
    ports: list[str] = []
    cards = 0
    while unread and unread[0].startswith("-"):
        name, equals, value = unread.popleft().partition("=")
        alone = name in SWITCHES or bool(re.fullmatch("-[ditqP]+", name))
        if not equals and not alone and unread:
            value = unread.popleft()
        if name in ("-e", "--env"):
            key, _, text = value.partition("=")
            env[key] = text
        elif name in ("-v", "--volume"):
            mounts |= mounted(value)
        elif name in ("-p", "--publish"):
            ports.append(value)
        cards += name == "--device" and CDI.match(value) is not None
        said[name] = value
    if not unread:
        raise UsageError(sentence("command.no_image"))
    image = unread.popleft()
    program, version = _image(image)
    inside = _inside(
        image, program, ([said["--entrypoint"]] if said["--entrypoint"] else []), unread
    )
    return LaunchedProgram(
        engine=inside.engine,
        name=inside.name,
        words=inside.words,
        env={**env, **inside.env},
        version=version,
        devices=_devices_of(said["--gpus"]) or listed(env.get(OF_CONTAINERS, "")) or cards or None,
        memory=said.get("--memory") or said.get("-m", ""),
        mounts=mounts,
        ports=tuple(ports),
    )


def mounted(volume: str) -> dict[str, str]:
    """Return {folder inside: folder or volume outside} of a volume: OUTSIDE:INSIDE[:ro]."""
    outside, colon, inside = volume.removesuffix(":ro").removesuffix(":rw").rpartition(":")
    return {inside: outside} if colon and inside.startswith("/") else {}


def _inside(image: str, program: str, entry: list[str], behind: Sequence[str]) -> LaunchedProgram:
    words = [*entry, *behind]
    known = _known(deque(words), {}, 0) if words else None
    if known is not None:
        return known
    if not program:
        raise UsageError(sentence("command.no_program", image=image))
    owner = PROGRAMS[program][0]
    runs = dialect(owner).runs if isinstance(owner, Engine) else None
    if runs is not None:
        words, program = runs(image, words)
    elif words[:1] == ["serve"]:
        words = words[1:]
    return LaunchedProgram(engine=_engine(program, words), name=program, words=tuple(words))


def release_of(image: str, engine: str) -> str | None:
    """Return the engine's release in the tag of its image; None for other images."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    own = any(re.fullmatch(pattern, name) for pattern in record(engine).images)
    return _image(image)[1] if own else None


def _image(image: str) -> tuple[str, str | None]:
    """Return (default program, version) of an image. Tags of NVIDIA and AMD are dates, and those of
    LMCache its own releases."""
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    for pattern, program in IMAGES:
        if re.fullmatch(pattern, name):
            words = {word.rstrip("0123456789") for word in re.split(r"[-_.]", name)} - {""}
            others = re.match(r"(?:nvcr\.io|rocm|lmcache)/", image) is not None
            of_its_makers = not others and words <= PUBLISHED
            numbered = re.fullmatch(r"v?(\d+\.\d+[\w.]*).*|.*-b(\d{4,5})", tag)
            return program, (numbered[1] or numbered[2]) if of_its_makers and numbered else None
    raise ContradictionError(sentence("image_unknown", image=image, listed=_listed()))


def _listed() -> str:
    return either(e.title for e in ENGINES.values() if e.images)


def _devices_of(gpus: str) -> int | None:
    """Return the number of devices in: all, 2, count=2, device=0,1 and '"device=0,1"'."""
    named = re.fullmatch(r"""["']*device=([^"']+)["']*""", gpus)
    if named:
        return listed(named[1])
    count = re.fullmatch(r"(?:count=)?(\d{1,4})", gpus)
    return int(count[1]) if count else None


def listed(devices: str) -> int | None:
    """Return the number of devices listed by number or name; None if the text is no such list."""
    if devices in ("all", "void", "none") or not re.fullmatch(r"[\w:.-]+(,[\w:.-]+)*", devices):
        return None
    return 0 if devices == "-1" else len(devices.split(","))


def visible(env: Mapping[str, str], given: int | None = None) -> int | None:
    """Return the number of devices that a process sees: those `given` to its container or job,
    limited by environment variables; None if nothing says."""
    counts = [given, *(listed(env.get(name, "")) for name in DEVICES)]
    return min((count for count in counts if count is not None), default=None)
