"""accelerate's YAML: the ranks of a run, and what they share out; it names no model.

Sources: accelerate @ 16cb6eb8: utils/dataclasses.py (FullyShardedDataParallelPlugin: version 1,
activation checkpointing off; DeepSpeedPlugin; ParallelismConfig), commands/config/.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, TypeGuard

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document, Path
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Value
from weighbridge.files.runfiles.training import arguments
from weighbridge.files.runfiles.training import zero as deepspeed
from weighbridge.files.runfiles.training.arguments import OF_RANKS
from weighbridge.files.runfiles.training.zero import ALIKE, MATCHED
from weighbridge.settings.ranks import SIZES, Ranks

KEYS = text_beside(__file__, "accelerate.txt")
OWN = ("distributed_type", "num_processes")
EMIT = "--emit accelerate"
SCRIPT = "the script that it launches is another file; --framework says what trains"
PRECISION = {"bf16": "bf16-mixed", "fp16": "fp16-mixed", "fp8": "fp8-mixed", "no": ""}
SWITCHES = {"use_fsdp": "FSDP", "use_deepspeed": "DEEPSPEED", "use_megatron_lm": "MEGATRON_LM"}
_OF_ZERO = """
zero_stage deepspeed_config_file gradient_accumulation_steps zero3_init_flag
offload_optimizer_device offload_optimizer_nvme_path offload_param_device
offload_param_nvme_path zero3_save_16bit_model gradient_clipping deepspeed_hostfile
deepspeed_multinode_launcher
"""
OF_ZERO = tuple(_OF_ZERO.split())
AT = "parallelism_config.parallelism_config_"
SPREAD = ("dp_replicate_size", "dp_shard_size")
OTHER_SIZES = (
    "{} is {} processes, and num_processes is {}: accelerate does not start; make them equal"
)
UNEVEN = (  # accelerate utils/launch.py (prepare_multi_gpu_env)
    "+- num_processes {} is no multiple of it: accelerate starts {} on each machine, and no more"
)
STRATEGIES = {"alltoall": "ring", "allgather": "allgather"}  # cp_comm_strategy


def tells(document: Document) -> bool:
    """Return whether a document is an accelerate config."""
    data = document.data
    return isinstance(data, dict) and all(key in data for key in OWN) and "kind" not in data


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the part of a run in a config: its ranks and its sharding."""
    keys = reading(document, KEYS)
    keys.default("framework", "trainer", SCRIPT)
    kind = str(keys.value("distributed_type")).upper()
    file = "deepspeed_config.deepspeed_config_file"
    if kind == "FSDP":
        arguments.fsdp(keys)
    elif kind == "DEEPSPEED" and keys.value(file):
        arguments.zero_named(keys, file)
        _sizes(keys)
    _ranks(keys, kind)
    refused = rules.decide(keys, "accelerate")
    yield keys.run("", refused=refused or _arranged_otherwise(keys))


def _arranged_otherwise(keys: KeyReading) -> str:
    """Return why the processes do not fill all parallel groups, so that accelerate does not start
    (accelerator.py, _build_torch_device_mesh; parallelism_config.py). "" if they do."""
    count = keys.value("num_processes")
    if not _counts(count):
        return ""
    sizes = {name: keys.value(f"{AT}{name}") for name in (*SPREAD, *OF_RANKS)}
    sizes_said = {name: size for name, size in sizes.items() if _counts(size)}
    if prod(sizes_said.values()) in (1, count):
        return ""
    groups = " x ".join(f"{name} {size}" for name, size in sizes_said.items())
    return OTHER_SIZES.format(groups, prod(sizes_said.values()), count)


def _counts(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _sizes(keys: KeyReading) -> None:
    """Read the micro-batches from a DeepSpeed file; a script's own arguments override them."""
    name, config = keys.zero or ("", {})
    for key, (_, setting) in MATCHED.items():
        if _counts(config.get(key)):
            keys.settings[setting] = config[key]
            size_read = Understood(key=key, value=config[key], setting=setting, line=0, file=name)
            keys.understood.append(size_read)


def _ranks(keys: KeyReading, kind: str) -> None:
    """Read the ranks; those that tensor and context parallelism leave are data parallel."""
    keys.take("tp_config.tp_size", "tensor_parallel_size")
    count = keys.value("num_processes")
    if not isinstance(count, int) or isinstance(count, bool):
        count = None
    for name, setting in OF_RANKS.items():
        if name != "sp_size" or keys.value(f"{AT}{name}", 1) != 1:
            keys.take(f"{AT}{name}", setting)
    replicas, shards = (keys.value(f"{AT}{name}") for name in SPREAD)
    if isinstance(replicas, int) and isinstance(shards, int) and min(replicas, shards) > 1:
        keys.settings["shard"] = "hsdp"
        keys.take(f"{AT}dp_replicate_size", "data_parallel_replicas")
    if count:
        data = Ranks.of(keys.settings).over(count).data
        keys.set(SIZES["data"], data, "num_processes")
        if kind in ("MULTI_GPU", "NO", "MULTI_CPU") and data > 1:
            keys.settings["shard"] = "ddp"
        _machines(keys, count)


def _machines(keys: KeyReading, count: int) -> None:
    """Read the number of ranks per machine, if there are several machines."""
    machines = keys.value("num_machines")
    if isinstance(machines, int) and 1 < machines <= count and count % machines == 0:
        keys.set("ranks_per_machine", count // machines, "num_machines")
    elif isinstance(machines, int) and 1 < machines <= count:
        keys.leave("num_machines", UNEVEN.format(count, count // machines))


# Flags of the launcher


def flagged(flags_given: Document) -> Document | None:
    """Return the config that flags of `accelerate launch` stand for, each at its flag's line; None
    if they set neither sharding nor precision. Flags of DeepSpeed count only with
    --use_deepspeed."""
    values = flags_given.data
    kind = next((name for flag, name in SWITCHES.items() if values.get(flag) is True), "")
    ranks = any(name.startswith("parallelism_config_") for name in values)
    if not kind and not ranks and "mixed_precision" not in values:
        return None
    paths: dict[str, Path] = {n: _path(n, kind) for n in values if n not in SWITCHES}
    data: dict[str, Any] = {"distributed_type": kind or "MULTI_GPU"}
    for name, path in paths.items():
        _put(data, path, values[name])
    named = flags_given.places.items()
    places = {paths[str(place[0])]: where for place, where in named if place[0] in paths}
    return replace(flags_given, data=data, places=places)


def _put(data: dict[str, Any], path: Path, value: Any) -> None:
    """Set `value` at a path, and create missing sections on the way."""
    for part in map(str, path[:-1]):
        data = data.setdefault(part, {})
    data[str(path[-1])] = value


def by_flags(run: PlannedRun) -> PlannedRun:
    """Return the run, with its keys under the launcher's flag names."""
    named = (
        replace(u, key=_flag(u.key), value=(True if u.key == "fsdp_config" else u.value))
        for u in run.understood
    )
    unread = (replace(u, key=_flag(u.key)) for u in run.unread)
    return replace(run, understood=tuple(named), unread=tuple(unread))


def _flag(key: str) -> str:
    return "--use_fsdp" if key == "fsdp_config" else f"--{key.rpartition('.')[2]}"


def _path(name: str, kind: str) -> Path:
    """Return the path in a config that a flag stands for."""
    if name.startswith("fsdp_"):
        return ("fsdp_config", name)
    if name.startswith("parallelism_config_"):
        return ("parallelism_config", name)
    return ("deepspeed_config", name) if kind == "DEEPSPEED" and name in OF_ZERO else (name,)


OWN_WORDS = (
    "framework",
    "batch_size",
    "gradient_accumulation",
    "precision",
)  # the run's own arguments decide


def _left_to_the_config(run: PlannedRun, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the config's settings that the run's arguments do not set."""
    own_keys = (one for one in run.understood if one.file == "" and one.key != "--config_file")
    read = {one.setting for one in own_keys}
    read |= {"shard"} if "offload" in read else set()
    return {n: value for n, value in settings.items() if n not in (*OWN_WORDS, *read)}


def launched(run: PlannedRun, shared: PlannedRun, *, counted: bool) -> PlannedRun:
    """Return a run as this config launches it. The run's own sharding arguments stay, and with
    `counted` also the ranks in its command."""
    taken = _left_to_the_config(run, shared.settings)
    shows = {*taken, SIZES["data"]}
    if counted:
        taken.pop(SIZES["data"], None)
    if "precision" in shared.settings and run.settings.get("precision") == "fp32":
        taken["precision"] = shared.settings["precision"]
    return replace(
        run,
        settings={**run.settings, **taken},
        understood=(*run.understood, *(u for u in shared.understood if u.setting in shows)),
        unread=(*run.unread, *shared.unread),
        defaults=(
            *(one for one in run.defaults if one[0] not in taken),
            *(one for one in shared.defaults if one[0] in taken),
        ),
        notes=(*run.notes, *shared.notes),
        refused=run.refused or shared.refused or _unlike(run, shared),
    )


def _unlike(run: PlannedRun, shared: PlannedRun) -> str:
    """Return which size in DeepSpeed's file contradicts the Trainer's arguments; "" if none
    does."""
    unsaid = {one.key for one in run.unread}
    for one in shared.understood:
        argument, setting = MATCHED.get(one.key, ("", ""))
        size = run.settings.get(setting, 1)
        if argument and argument not in unsaid and one.value != size:
            return ALIKE.format(one.file, one.key, one.value, argument, size)
    return ""


# A new file

PLACES: Mapping[Value, tuple[str, ...]] = {  # what ZeRO offloads from the device
    "optimizer": ("offload_optimizer",),
    "params": ("offload_optimizer", "offload_param"),
    "nvme": ("offload_optimizer", "offload_param"),
}


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file, with a run's ranks and sharding."""
    settings = run.settings
    shard = str(settings["shard"])
    zero = shard.startswith("zero")
    other = "cp_size" if zero else "sp_size"
    among = {
        name: settings[setting]
        for name, setting in OF_RANKS.items()
        if settings[setting] > 1 and name != other
    }
    ranks = Ranks.of(settings)
    count = ranks.cards
    half = next(
        (name for name, precision in PRECISION.items() if precision == settings["precision"]), "no"
    )
    kind = "FSDP" if "fsdp" in shard or shard == "hsdp" else "MULTI_GPU" if count > 1 else "NO"
    words: dict[str, Value] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "DEEPSPEED" if zero else kind,
        "mixed_precision": half,
        "num_machines": ranks.machines,
        "num_processes": count,
        "machine_rank": 0,
        "main_training_function": "main",
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": False,
        "debug": False,
        "downcast_bf16": "no",
    }
    if settings["pipeline_parallel_size"] > 1:
        raise UsageError(sentence("emit.no_pipelines"), where=EMIT)
    if settings.get("reduce_dtype"):
        raise UsageError(
            sentence("emit.no_word", flag="--reduce-dtype"), where=EMIT, then=sentence("leave_out")
        )
    if zero:
        words |= _zero_words(shard, settings)
    elif kind == "FSDP":
        words |= _fsdp_words(settings)
    for name, size in _arranged(settings, among).items():
        words[f"{AT}{name}"] = size
    return words


def _arranged(settings: Mapping[str, Value], among: Mapping[str, int]) -> Mapping[str, Value]:
    """Return the sizes of accelerate's groups, and how the ranks of a sequence exchange it; {} if
    all ranks are in one group. `among`: ranks that share a layer or a sequence. Raises UsageError
    for groups that accelerate rejects (parallelism_config.py)."""
    if list(among) == ["sp_size"]:
        return _by_deepspeed(settings, among)
    why = sentence("emit.beside_fsdp2")
    shared = Ranks.of(settings).among > 1
    if settings["shard"] in ("fsdp2", "hsdp"):
        sizes = arguments.groups(settings)
        if among and not shared:
            then = sentence("emit.shares_nothing", way=settings["shard"])
            raise UsageError(why, where=EMIT, then=then)
        words = {**_gathering(settings), **among, **sizes}
        return words if among or sizes["dp_replicate_size"] > 1 else {}
    if among and shared:
        raise UsageError(why, where=EMIT, then=sentence("emit.give_fsdp2"))
    return among


def _by_deepspeed(settings: Mapping[str, Value], among: Mapping[str, int]) -> dict[str, Value]:
    """Return the keys for Ulysses with ZeRO. Raises UsageError for other sequence parallelism."""
    way = settings.get("context_parallel_by")
    if way not in (None, "ulysses"):
        raise UsageError(sentence("emit.ulysses", way=way), where=EMIT)
    flash = settings["attention"] == "flash"
    return {
        **among,
        "dp_shard_size": settings["data_parallel_size"],
        "sp_backend": "deepspeed",
        "sp_seq_length_is_variable": True,
        "sp_attn_implementation": "flash_attention_2" if flash else "sdpa",
    }


def _gathering(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the keys for torch's context parallelism. Raises UsageError for other kinds."""
    way = settings.get("context_parallel_by")
    if way in (None, "allgather") or settings["context_parallel_size"] == 1:
        return {}
    word = next((word for word, ours in STRATEGIES.items() if ours == way), None)
    if word is None:
        raise UsageError(sentence("emit.ring", way=way), where=EMIT)
    return {"cp_comm_strategy": word}


def _fsdp_words(settings: Mapping[str, Value]) -> dict[str, Value]:
    words: dict[str, Value] = {}
    for key, value in arguments.fsdp_words(settings).items():
        words[f"fsdp_config.fsdp_{key.rpartition('.')[2].removeprefix('fsdp_')}"] = value
    words["fsdp_config.fsdp_cpu_ram_efficient_loading"] = settings["cpu_ram_efficient_loading"]
    return words


def _zero_words(shard: str, settings: Mapping[str, Value]) -> dict[str, Value]:
    section = "deepspeed_config"
    words: dict[str, Value] = {
        f"{section}.zero_stage": int(shard[-1]),
        f"{section}.gradient_accumulation_steps": settings["gradient_accumulation"],
        f"{section}.offload_optimizer_device": "none",
        f"{section}.offload_param_device": "none",
        f"{section}.zero3_init_flag": shard == "zero3" and not settings.get("no_zero_init"),
        f"{section}.zero3_save_16bit_model": shard == "zero3",
    }
    for name in PLACES.get(settings["offload"], ()):
        disk = settings["offload"] == "nvme"
        words[f"{section}.{name}_device"] = "nvme" if disk else "cpu"
        words |= {f"{section}.{name}_nvme_path": deepspeed.NVME} if disk else {}
    return words


KIND = Kind(
    name="accelerate",
    title=sentence("title.config", program="accelerate"),
    syntaxes=("yaml", "json"),
    source="https://github.com/huggingface/accelerate @ 16cb6eb8",
    tells=tells,
    read=read,
    fresh=fresh,
)
