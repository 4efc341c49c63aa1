"""A command line as people start their programs, read: which program, and one of how many.

    python [-u ...] train.py ...      python -m package.module ...
    torchrun --nproc-per-node 8 [--nnodes 2] train.py ...     (python -m torch.distributed.run)
    accelerate launch --num_processes 8 [--use_fsdp ...] train.py ...

The launcher is not run: its flags are read from tables (torch/distributed/run.py;
accelerate/commands/launch.py), and what it would tell a process is told to the one that is traced.
A flag that is in no table is left out, and said. Torch-free.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError, UsageError
from weighbridge.base.records import dataclass, field, frozen_record, replace
from weighbridge.base.sentences import sentence

EVERY_CARD = -1  # processes: one per card
OURS = ("--gpu", "--gpu-memory", "--input", "--fit", "--time-limit", "--torch-version", "--steps")


@frozen_record
class TraceLaunch:
    """A program as a command line starts it. `program`: a script, or a module's name; `processes`
    run on each of `nodes`, and the first one of `node` is traced."""

    program: str
    arguments: tuple[str, ...] = ()
    module: bool = False
    processes: int | None = None
    nodes: int = 1
    node: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of a launcher: `values` take a value, `alone` do not; `of`: the program's name in
    errors."""

    of: str
    values: str
    alone: str


Found = dict[str, str]

PYTHON_VALUES, PYTHON_ALONE = "WX", "bBdEhiIOPqsSuvx"  # signs
TORCHRUN = Flags(
    "torchrun",
    "nnodes nproc-per-node rdzv-backend rdzv-endpoint rdzv-id rdzv-conf max-restarts "
    "monitor-interval start-method event-log-handler role log-dir r redirects t tee "
    "local-ranks-filter duplicate-stdout-filters duplicate-stderr-filters node-rank "
    "master-addr master-port local-addr logs-specs numa-binding signals-to-handle "
    "shutdown-timeout",
    "standalone m module no-python run-path virtual-local-rank use-env",
)
ACCELERATE = Flags(
    "accelerate launch",
    "config-file num-processes num-machines machine-rank mixed-precision gpu-ids "
    "main-process-ip main-process-port main-training-function num-cpu-threads-per-process "
    "dynamo-backend dynamo-mode gradient-accumulation-steps gradient-clipping tee log-dir "
    "role rdzv-backend rdzv-conf max-restarts monitor-interval same-network "
    "zero-stage offload-optimizer-device offload-param-device zero3-init-flag "
    "zero3-save-16bit-model deepspeed-config-file deepspeed-moe-layer-cls-names "
    "deepspeed-hostfile deepspeed-multinode-launcher deepspeed-inclusion-filter "
    "deepspeed-exclusion-filter offload-optimizer-nvme-path offload-param-nvme-path",
    "quiet q cpu multi-gpu use-fsdp module m no-python debug enable-cpu-affinity "
    "dynamo-use-fullgraph dynamo-use-dynamic downcast-bf16 use-deepspeed use-megatron-lm "
    "use-parallelism-config tpu",
)
REFUSED = {
    "use-megatron-lm": "Megatron-LM is not traced",
    "no-python": "a program that is not Python is not traced",
    "cpu": "nothing of it would be on a GPU",
    "tpu": "nothing of it would be on a GPU",
}
UNKNOWN = "{}: we do not know {}; it is left out"
# accelerate/utils/launch.py: defaults of FSDP_... variables
FSDP = {
    "version": "1",
    "sharding-strategy": "FULL_SHARD",
    "reshard-after-forward": "true",
    "offload-params": "false",
    "min-num-params": "100000000",
    "forward-prefetch": "false",
    "use-orig-params": "true",
    "cpu-ram-efficient-loading": "true",
    "sync-module-states": "true",
    "activation-checkpointing": "false",
}
DEEPSPEED = {  # values of ACCELERATE_... variables if the flags are given
    "gradient-clipping": "GRADIENT_CLIPPING",
    "zero-stage": "DEEPSPEED_ZERO_STAGE",
    "offload-optimizer-device": "DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
    "offload-param-device": "DEEPSPEED_OFFLOAD_PARAM_DEVICE",
    "zero3-init-flag": "DEEPSPEED_ZERO3_INIT",
    "zero3-save-16bit-model": "DEEPSPEED_ZERO3_SAVE_16BIT_MODEL",
    "deepspeed-config-file": "DEEPSPEED_CONFIG_FILE",
    "deepspeed-moe-layer-cls-names": "DEEPSPEED_MOE_LAYER_CLS_NAMES",
}
SPELLED = ("deepspeed-config-file", "deepspeed-moe-layer-cls-names")  # with capitals
RENAMED = {"transformer-layer-cls-to-wrap": "transformer-cls-to-wrap"}


def read(words: Sequence[str], *, module: bool = False) -> TraceLaunch:
    """Return the launch in the words after our own options: a script, a module or a launcher.
    Raises UsageError."""
    head = words[0]
    name = os.path.basename(head)
    if module:
        return _module(head, tuple(words[1:]))
    if os.path.isfile(head) and name.endswith(".py"):
        notes = tuple(_behind(head, words[1:]))
        return TraceLaunch(program=head, arguments=tuple(words[1:]), notes=notes)
    if re.fullmatch(r"python(\d(\.\d+)?t?)?", name):
        return _python(words[1:])
    if name in HEADS:
        return HEADS[name](words[1:])
    return TraceLaunch(program=head, arguments=tuple(words[1:]))


def _behind(script: str, arguments: Sequence[str]) -> Iterator[str]:
    """Yield notes on options of trace that follow a script, unless the script's text has their
    names."""
    flags = [flag for word in arguments if (flag := word.partition("=")[0]) in OURS]
    if flags:
        with open(script, encoding="utf-8", errors="replace") as file:
            source = file.read()
        yield from (
            sentence("trace.behind_script", flag=flag, script=script)
            for flag in flags
            if re.search(rf"\b{re.sub('[-_]', '[-_]', flag.lstrip('-'))}\b", source) is None
        )


def _module(name: str, arguments: tuple[str, ...]) -> TraceLaunch:
    if name in MODULES:
        return MODULES[name](arguments)
    return TraceLaunch(program=name, arguments=arguments, module=True)


def _python(words: Sequence[str]) -> TraceLaunch:
    notes: list[str] = []
    index = 0
    while index < len(words) and words[index].startswith("-"):
        word = words[index]
        index += 1
        if word == "-c" or word == "-":
            raise UsageError(sentence("trace.python"), where=f"python {word}")
        if word == "-m":
            return _noted(
                _module(_first(words[index:], "python -m"), tuple(words[index + 1 :])), notes
            )
        if word[1:2] in PYTHON_VALUES:
            index += len(word) == 2
        elif not set(word[1:]) <= set(PYTHON_ALONE):
            notes.append(UNKNOWN.format("python", word))
    command = words[index:]
    return _noted(
        TraceLaunch(program=_first(command, "python"), arguments=tuple(command[1:])), notes
    )


def _torchrun(words: Sequence[str]) -> TraceLaunch:
    flags, command, notes = _flags(TORCHRUN, words)
    nodes = flags.get("nnodes", "1").rpartition(":")[2]  # of "1:4" the most
    per_node = flags.get("nproc-per-node", "1")
    processes = EVERY_CARD if per_node in ("auto", "gpu") else _number("--nproc-per-node", per_node)
    launch = _launched(flags, command, notes)
    count, node = _number("--nnodes", nodes), _number("--node-rank", flags.get("node-rank", "0"))
    return replace(launch, processes=processes, nodes=count, node=node)


def _accelerate(words: Sequence[str]) -> TraceLaunch:
    if words[:1] != ["launch"] and tuple(words[:1]) != ("launch",):
        raise UsageError(sentence("trace.accelerate"))
    return _accelerate_launch(words[1:])


def _accelerate_launch(words: Sequence[str]) -> TraceLaunch:
    flags, command, notes = _flags(ACCELERATE, words, prefixes=("fsdp-",))
    flags = _configured(flags.get("config-file")) | flags
    _refuse(ACCELERATE, flags)
    launch = _launched(flags, command, notes)
    machines = _number("--num_machines", flags.get("num-machines", "1"))
    processes = _number("--num_processes", flags.get("num-processes", str(EVERY_CARD)))
    node = _number("--machine_rank", flags.get("machine-rank", "0"))
    per_node = max(processes // machines, 1) if processes > 0 else processes
    return replace(
        launch,
        processes=per_node,
        nodes=machines,
        node=node,
        variables=_variables(flags),
    )


def _variables(flags: Found) -> dict[str, str]:
    """Return the environment variables that accelerate sets (accelerate/utils/launch.py:
    prepare_multi_gpu_env, prepare_deepspeed_cmd_env)."""
    variables = {"ACCELERATE_MIXED_PRECISION": flags.get("mixed-precision", "no").lower()}
    steps = flags.get("gradient-accumulation-steps")
    if steps is not None:
        variables["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = steps
    if "use-fsdp" in flags:
        variables["ACCELERATE_USE_FSDP"] = "true"
        fsdp = {k.removeprefix("fsdp-"): v for k, v in flags.items() if k.startswith("fsdp-")}
        for name, value in (FSDP | fsdp).items():
            variables["FSDP_" + RENAMED.get(name, name).upper().replace("-", "_")] = _spelled(value)
    if "use-deepspeed" in flags:
        variables |= _deepspeed_settings(flags)
    return variables


def _deepspeed_settings(flags: Found) -> Iterator[tuple[str, str]]:
    yield "ACCELERATE_USE_DEEPSPEED", "true"
    for flag, name in DEEPSPEED.items():
        if flag in flags:
            value = flags[flag]
            yield f"ACCELERATE_{name}", value if flag in SPELLED else value.lower()


def _spelled(value: str) -> str:
    return value.lower() if value.lower() in ("true", "false") else value


def _configured(path: str | None) -> Found:
    """Return the settings in a file written by `accelerate config`, as flags."""
    if path is None:
        return {}
    if find_spec("yaml") is None:
        raise UnsupportedError(sentence("trace.yaml"), where=f"--config_file {path}")
    yaml: Any = import_module("yaml")
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        raise BadFileError(f"{path}: {error}") from None
    values: Found = {}
    kind = str(content.get("distributed_type", "")).upper()
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        values["use-" + kind.lower().replace("_", "-")] = ""
    nested = ("fsdp_config", "deepspeed_config")
    inner = (pair for name in nested for pair in (content.get(name) or {}).items())
    for name, value in (*content.items(), *inner):
        if isinstance(value, str | int | float):
            values[_dashed(name)] = str(value)
    alone = ACCELERATE.alone.split()
    return {name: v for name, v in values.items() if not (name in alone and _no(v))}


def _no(value: str) -> bool:
    return value.lower() == "false"


def _flags(
    flags: Flags, words: Sequence[str], prefixes: tuple[str, ...] = ()
) -> tuple[Found, tuple[str, ...], list[str]]:
    """Return (known flags, program with its arguments, notes on unknown flags) of a launcher's
    command."""
    values: Found = {}
    notes: list[str] = []
    alone, with_value, index = flags.alone.split(), flags.values.split(), 0
    while index < len(words) and words[index].startswith("-") and words[index] != "--":
        word, _, value = words[index].partition("=")
        name = _dashed(word)
        index += 1
        if name in alone:
            values[name] = ""
        elif name in with_value or name.startswith(prefixes or ("\0",)):
            if not value:
                value, index = _first(words[index:], word), index + 1
            values[name] = value
        else:
            notes.append(UNKNOWN.format(flags.of, word))
            index += not value and index + 1 < len(words) and not _program(words[index])
    _refuse(flags, values)
    index += list(words[index : index + 1]) == ["--"]
    return values, tuple(words[index:]), notes


def _program(word: str) -> bool:
    """Return whether a word after an unknown flag is not its value: another flag, or a script."""
    return word.startswith("-") or word.partition(":")[0].endswith(".py")


def _refuse(flags: Flags, values: Found) -> None:
    for name in values.keys() & REFUSED.keys():
        raise UnsupportedError(f"{flags.of} --{name.replace('-', '_')}: {REFUSED[name]}")


def _launched(flags: Found, command: tuple[str, ...], notes: list[str]) -> TraceLaunch:
    script = _first(command, "the launcher")
    module = "m" in flags or "module" in flags
    arguments = command[1:]
    if arguments[:1] == ("--",):  # as argparse has it, for the arguments behind the script
        arguments = arguments[1:]
    return TraceLaunch(program=script, arguments=arguments, module=module, notes=tuple(notes))


def _dashed(word: str) -> str:
    return word.lstrip("-").replace("_", "-")


def _first(words: Sequence[str], what: str) -> str:
    if not words:
        raise UsageError(sentence("trace.follows"), where=what)
    return words[0]


def _number(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(sentence("value.whole"), where=f"{flag} {text}") from None


def _noted(launch: TraceLaunch, notes: list[str]) -> TraceLaunch:
    return replace(launch, notes=(*notes, *launch.notes))


HEADS: dict[str, Callable[[Sequence[str]], TraceLaunch]] = {
    "torchrun": _torchrun,
    "accelerate": _accelerate,
    "accelerate-launch": _accelerate_launch,
}
MODULES: dict[str, Callable[[Sequence[str]], TraceLaunch]] = {
    "torch.distributed.run": _torchrun,
    "torch.distributed.launch": _torchrun,
    "accelerate.commands.launch": _accelerate_launch,
}
