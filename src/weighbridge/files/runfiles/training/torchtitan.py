"""torchtitan's TOML, read into the settings of the run that it starts.

Sources: torchtitan v0.1.0 to v0.2.2: config_manager.py, config/job_config.py (local_batch_size 8,
seq_len 2048, float32 parameters under bfloat16, shard degree -1, AdamW fused, every second layer
recomputed), models/llama3/train_configs/. Later releases have configs in Python.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import (
    KeyReading,
    phrased,
    reading,
    table,
    worded,
)
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.training.arguments import groups
from weighbridge.files.runfiles.training.shapes import shape_name
from weighbridge.machines.allocator.settings import GROWING, VARIABLES
from weighbridge.models.catalogue import everyday
from weighbridge.settings.ranks import Ranks
from weighbridge.training.launching import by_machine
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.stages import layers_of_stages

KEYS = text_beside(__file__, "torchtitan.txt")
OWN = ("model", "training")
BATCHES = ("training.local_batch_size", "training.batch_size")
BATCH = 8  # sequences of a rank in a step
SCHEDULES = {  # as torch calls them, in lower case
    "gpipe": "gpipe",
    "1f1b": "1f1b",
    "interleaved1f1b": "interleaved",
    "zbvzerobubble": "zero-bubble",
}
TORCHS = ("GPipe", "1F1B", "Interleaved1F1B", "ZBVZeroBubble")
ROTATES = {"alltoall": "ring", "allgather": "allgather"}
DEGREE = "parallelism.data_parallel_"
RESHARD = "parallelism.fsdp_reshard_after_forward"
RESHARDS = {"always": True, "never": False}  # "default" is neither
PARTS = "parallelism.module_fqns_per_model_part"
REDUCED = "training.mixed_precision_reduce"
RELEASE = "0.2.2"
# Converters of linears and of experts, and whose scales are of 32 numbers
LINEARS = {"quantize.linear.float8": "", "float8": "", "quantize.linear.mx": "mxfp8", "mx": "mxfp8"}
GROUPED = {"quantize.grouped_mm.float8": "", "quantize.grouped_mm.mx": "mxfp8"}
FLOAT8 = "quantize.linear.float8"
RECIPES = {  # without one a scale is a tensor's, and layers may be gathered in 8 bits
    "tensorwise": "tensorwise",
    "rowwise": "rowwise",
    "rowwise_with_gw_hp": "rowwise",
}
BLOCKS = "_irope"  # Llama 4's layers that attend in blocks, by flex attention: it keeps as much
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
# What a stage has by other keys: how many layers less than the rest, or where it begins
SPLITS = tuple(
    f"{room}.pipeline_parallel_{name}"
    for room in ("parallelism", "experimental")
    for name in (
        "split_points",
        "layers_per_stage",
        "first_stage_less_layers",
        "last_stage_less_layers",
    )
)
AC_EVERY = "op"  # of the operators of each layer; a number is of layers, and 2 without it
EVERY = "activation_checkpoint.selective_ac_option"
EVERY_LAYER = ("0", "1")  # distributed/activation_checkpoint.py: every layer is wrapped


def tells(document: Document) -> bool:
    """Tell whether a document is torchtitan's: a flavor of a model, and how it is trained."""
    data = document.data
    return (
        isinstance(data, dict)
        and all(isinstance(data.get(name), dict) for name in OWN)
        and "flavor" in data["model"]
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "torchtitan"
    keys.settings["method"] = "full"
    keys.default("framework_version", RELEASE, "the last release of torchtitan that reads TOML")
    if [keys.take(name, "batch_size") for name in BATCHES] == [None, None]:
        keys.default(
            "batch_size",
            BATCH,
            sentence("own_name", framework="torchtitan", name="local_batch_size"),
        )
    if keys.take("training.seq_len", "seq_len") is None:
        keys.default("seq_len", 2048, sentence("own_name", framework="torchtitan", name="seq_len"))
    _accumulated(keys)
    _precision(keys)
    _checkpoints(keys)
    _optimizer(keys)
    _ranks(keys)
    model = _model(keys)
    keys.plain()
    _pipelined(keys)
    _layers(keys)
    _sequence(keys)
    yield keys.run(model)


def _model(keys: KeyReading) -> str:
    """Return the model: the flavor decides what is built, and the folder of its assets says whose
    weights of that shape they are, or which flavor that we do not know it is."""
    keys.used.update(("model.name", "model.flavor", "model.hf_assets_path"))
    named = keys.text("hf_transformers.model")
    if named:
        keys.take("hf_transformers.model", "model")
        return named
    family, flavor = str(keys.value("model.name")), str(keys.value("model.flavor"))
    built = family, flavor.removesuffix(BLOCKS)
    shape = next((s for s, family_and_size in FLAVORS.items() if family_and_size == built), "")
    known = _of_assets(keys)
    if shape:
        return _flavored(keys, shape, known)
    if known and family not in {family_and_size[0] for family_and_size in FLAVORS.values()}:
        keys.take("model.hf_assets_path", "model")
        return known
    flavor = f"{family} {flavor}"
    keys.leave("model.flavor", f"{flavor:.60} names no model of the Hub; --model says which")
    return ""


def _of_assets(keys: KeyReading) -> str:
    """Return the model that the folder of the assets is called after; "" where it is none."""
    path = keys.text("model.hf_assets_path")
    known = model_of(path).removeprefix("hf/") if path else ""
    return "" if known.rpartition("/")[2].lower() in ("tokenizer", "assets") else known


def _flavored(keys: KeyReading, shape: str, known: str) -> str:
    """Return the model of a flavor: that of its assets where it has the shape, else the published
    one; a folder that is called after a model of another shape is told."""
    meaning = everyday.meaning(known.rpartition("/")[2]) if known else None
    if meaning is not None and shape_name(meaning.entry.config) == shape:
        keys.take("model.hf_assets_path", "model")
        return known
    keys.knows("model.flavor", "model")
    if meaning is not None:
        keys.notes.append(sentence("titan.flavor", flavor=keys.value("model.flavor"), model=known))
    return PUBLISHED.get(shape, shape)


def _accumulated(keys: KeyReading) -> None:
    whole = keys.value("training.global_batch_size")
    if isinstance(whole, int) and whole > 0:
        keys.leave("training.global_batch_size", "micro-batches of a step follow from the ranks")


def _precision(keys: KeyReading) -> None:
    """FSDP's parts are float32 and gathered in bfloat16, unless `dtype` says otherwise."""
    dtype = keys.value("training.dtype")
    param = keys.value("training.mixed_precision_param", "bfloat16")
    if dtype == "bfloat16":
        keys.set("precision", "bf16", "training.dtype")
    else:
        keys.settings["precision"] = "bf16-mixed" if param == "bfloat16" else "fp32"
        if keys.value("training.mixed_precision_param"):
            keys.knows("training.mixed_precision_param", "precision")
    _small_products(keys, wide=dtype != "bfloat16" and param == "bfloat16")


SMALL_PRODUCTS = re.compile("float8|mx")  # in names of converters


def _small_products(keys: KeyReading, *, wide: bool) -> None:
    """Read which products are in 8 bits: those of linears in float8 are counted, over parts in
    float32 that are gathered in bfloat16 (`wide`)."""
    converters = keys.value("model.converters") or keys.value("model.handlers") or ()
    small = set(filter(SMALL_PRODUCTS.search, map(str, converters)))
    linears = {LINEARS[each] for each in small & LINEARS.keys()}
    experts = {GROUPED[each] for each in small & GROUPED.keys()}
    known = small <= LINEARS.keys() | GROUPED.keys()
    if not small:
        return
    if not wide or not known or len(linears) != 1 or not experts <= linears:
        keys.leave("model.converters", "+ products are in 8 bits, with copies that are not counted")
        return
    keys.set("precision", "fp8-mixed", "model.converters")
    if experts:
        keys.set("float8_experts", True, "model.converters")
    if linears == {"mxfp8"}:
        keys.set("float8_recipe", "mxfp8", "model.converters")
    else:
        _scaled(keys)


def _scaled(keys: KeyReading) -> None:
    """Read what a scale of float8 is of, or that linears are gathered in 8 bits."""
    for room in ("quantize.linear.float8", "float8"):
        recipe, gathers = f"{room}.recipe_name", f"{room}.enable_fsdp_float8_all_gather"
        recipe_said = keys.text(recipe)
        if recipe_said in RECIPES:
            keys.set("float8_recipe", RECIPES[recipe_said], recipe)
        elif recipe_said:
            keys.leave(recipe, f"{recipe_said:.40} is not counted")
        elif keys.on(gathers):
            keys.set("float8_all_gather", True, gathers)


def _checkpoints(keys: KeyReading) -> None:
    """Read what is recomputed: "selective" is of operators, or of every so many layers, whole."""
    mode = str(keys.value("activation_checkpoint.mode") or "")
    option = str(keys.value(EVERY) or "")
    meant = mode or "selective"
    if meant == "selective" and option != AC_EVERY:
        meant = "full" if option in EVERY_LAYER else "none"
        if meant == "none":
            keys.leave(EVERY, "- it recomputes every so many layers, which is not counted")
    if meant not in ("none", "full", "selective"):
        keys.leave("activation_checkpoint.mode", f"{mode:.40} is not counted")
    elif mode:
        keys.set("checkpointing", meant, "activation_checkpoint.mode")
    else:
        keys.default("checkpointing", meant, "torchtitan's own activation_checkpoint")
    for name in filter(keys.on, ("compile.enable", "training.compile")):
        keys.set("compile", True, name)


def _optimizer(keys: KeyReading) -> None:
    kind = str(keys.value("optimizer.name") or "AdamW")
    implementation = str(keys.value("optimizer.implementation") or "fused")
    if keys.value("optimizer.fused") is False:
        implementation = "foreach"
    name = {"AdamW": "adamw_torch", "Adam": "adam"}.get(kind)
    if name is None:
        keys.leave("optimizer.name", f"{kind:.40} is not counted")
        return
    if name == "adamw_torch" and implementation == "fused":
        name = "adamw_torch_fused"
    if "name" in (keys.value("optimizer") or {}):
        keys.set("optimizer", name, "optimizer.name")
    else:
        keys.settings["optimizer"] = name


def _ranks(keys: KeyReading) -> None:
    (replicas, where), (shards, _) = _degree(keys, "replicate", 1), _degree(keys, "shard", -1)
    if shards == 1:
        keys.settings["shard"] = "ddp" if replicas > 1 else "none"
    else:
        keys.settings["shard"] = "hsdp" if replicas > 1 else "fsdp2"
        if replicas > 1:
            keys.set("data_parallel_replicas", replicas, where)
    if keys.on("training.enable_cpu_offload"):
        keys.set("offload", "params", "training.enable_cpu_offload")
    if shards > 1:
        keys.settings["data_parallel_size"] = shards * max(1, replicas)
    if keys.settings["shard"] in ("fsdp2", "hsdp"):
        _policy(keys)
    keys.used.add(REDUCED)


def _policy(keys: KeyReading) -> None:
    """Take when FSDP gives layers back, and in what it adds gradients up."""
    policy = keys.value(RESHARD, "default")
    if str(policy) in RESHARDS:
        keys.set("reshard_after_forward", RESHARDS[policy], RESHARD)
    elif policy != "default":
        keys.leave(RESHARD, f"+- {shown(policy)} is no policy; its default is counted")
    keys.take(REDUCED, "reduce_dtype")


def _degree(keys: KeyReading, what: str, otherwise: int) -> tuple[int, str]:
    """Return a degree of data parallelism and its key; older files have it in [training]."""
    names = [f"{room}.data_parallel_{what}_degree" for room in ("parallelism", "training")]
    degrees = {name: keys.value(name) for name in names}
    known = ((value, name) for name, value in degrees.items() if isinstance(value, int))
    return next(known, (otherwise, names[0]))


def _pipelined(keys: KeyReading) -> None:
    """Take the order of stages, and the micro-batches that a rank's sequences are cut into: of one
    each by default (pipeline_parallel_microbatch_size), or as many as an older key says."""
    schedule, parts = "pipeline_parallel_schedule", "pipeline_parallel_microbatches"
    size = "parallelism.pipeline_parallel_microbatch_size"
    names = [f"{room}.{schedule}" for room in ("parallelism", "experimental")]
    counts = [f"{room}.{parts}" for room in ("parallelism", "experimental")]
    keys.used.update((*names, *counts, size, "parallelism.pipeline_parallel_schedule_csv"))
    if (keys.settings.get("pipeline_parallel_size") or 1) == 1:
        return
    for name in names:
        _order(keys, name)
    whole = keys.settings["batch_size"]
    each = _micro_batch(keys, whole, size, counts)
    if each and whole % each == 0:
        keys.settings["batch_size"], keys.settings["gradient_accumulation"] = each, whole // each
        for key in (key for key in (size, *counts) if keys.value(key) is not None):
            keys.knows(key, "gradient_accumulation")


def _order(keys: KeyReading, name: str) -> None:
    """Take the order of stages that a key says."""
    order = keys.text(name)
    if order and order.lower() in SCHEDULES:
        keys.set("pipeline_schedule", SCHEDULES[order.lower()], name)
    elif order:
        keys.leave(name, f"+- the order {order:.40} is not counted; 1F1B is")


def _micro_batch(keys: KeyReading, whole: int, size: str, counts: Sequence[str]) -> int:
    """Return the sequences of a micro-batch: as a key sizes it, or by how many there are."""
    numbers = [number for key in counts if isinstance(number := keys.value(key), int)]
    count = next((number for number in numbers if number > 0), None)
    each = keys.value(size, 1)
    return whole // count if count else each if isinstance(each, int) and each > 0 else 1


def _layers(keys: KeyReading) -> None:
    """Take the layers of each stage where the modules of all parts are named; of a rank's two
    parts together."""
    stages = keys.settings.get("pipeline_parallel_size") or 1
    keys.used.update((PARTS, *SPLITS))
    if not isinstance(stages, int) or stages == 1:
        return
    named = keys.value(PARTS)
    for key in SPLITS:
        if keys.value(key) not in (None, "", [], 1):
            keys.leave(key, "+- stages of other layers than usual are not counted")
    if named in (None, []):
        return
    if not _are_parts(named) or len(named) % stages:
        keys.leave(PARTS, f"+- it is no list of modules for each part of {stages} stages")
    else:
        keys.set("pp_layer_partition", _layers_of_stages(named, stages), PARTS)


def _layers_of_stages(parts: Sequence[Sequence[object]], stages: int) -> list[int]:
    """Return the layers of each stage, which may have several parts."""
    counts = [sum(str(name).startswith("layers.") for name in part) for part in parts]
    return [sum(counts[i::stages]) for i in range(stages)]


def _are_parts(named: object) -> bool:
    """Tell whether a value is lists of modules, each with a layer or with an end of the model."""
    lists = isinstance(named, list) and all(isinstance(part, list) and part for part in named)
    return lists and any(str(x).startswith("layers.") for part in named for x in part)  # type: ignore[attr-defined]


def _sequence(keys: KeyReading) -> None:
    rotates = "parallelism.context_parallel_rotate_method"
    keys.used.add(rotates)
    if (keys.settings.get("context_parallel_size") or 1) != 1:
        keys.take(rotates, "context_parallel_by", ROTATES.get)


WRITTEN: Mapping[str, str] = {
    "batch_size": "training.local_batch_size|training.batch_size",
    "seq_len": "training.seq_len",
}
SAID = table(KEYS).phrases


def written(change: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """Return a change of our settings as keys of the file; None where it has no words for it."""
    return phrased(change, WRITTEN, SAID)


# A new file: v0.2.2 is the last release that reads TOML, whose keys are in config/job_config.py
FLAVORS: Mapping[
    str, tuple[str, str]
] = {  # by shape: models/{llama3,llama4,qwen3,gpt_oss}/__init__.py
    "llama-3-8b": ("llama3", "8B"),
    "llama-3-70b": ("llama3", "70B"),
    "llama-3-405b": ("llama3", "405B"),
    "qwen3-0.6b": ("qwen3", "0.6B"),
    "qwen3-1.7b": ("qwen3", "1.7B"),
    "qwen3-4b": ("qwen3", "4B"),
    "qwen3-8b": ("qwen3", "8B"),
    "qwen3-14b": ("qwen3", "14B"),
    "qwen3-32b": ("qwen3", "32B"),
    "qwen3-30b-a3b": ("qwen3", "30B-A3B"),
    "qwen3-235b-a22b": ("qwen3", "235B-A22B"),
    "gpt-oss-20b": ("gpt_oss", "20b"),
    "gpt-oss-120b": ("gpt_oss", "120b"),
    "llama-4-scout": ("llama4", "17bx16e"),
    "llama-4-maverick": ("llama4", "17bx128e"),
}
PUBLISHED = {  # shapes whose name is of several models: one of them
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3-405b": "llama-3.1-405b",
}
NEW: Mapping[str, Value] = {  # what a new file says besides: a small dataset of its repository
    "training.dataset": "c4_test",
    "training.steps": 1000,
    "optimizer.lr": 3e-5,
    "checkpoint.enable": True,
    "checkpoint.initial_load_in_hf": True,  # it begins with the weights in hf_assets_path
}
FEW = frozenset(("loss", "lora_targets", "modules_to_save", "optim_args"))
ASSETS = "./assets/hf"


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for a model of which
    torchtitan has no flavor that we know."""
    last = run.model.rstrip("/").rpartition("/")[2]
    known = FLAVORS.get(shape_name(run.config))
    if known is None:
        raise UsageError(sentence("titan.no_flavor", model=last))
    words: dict[str, Value] = {
        "model.name": known[0],
        "model.flavor": known[1],
        "model.hf_assets_path": f"{ASSETS}/{last}",
    }
    settings = {name: value for name, value in run.settings.items() if name not in FEW}
    words |= worded(settings, KEYS, {**WRITTEN, "batch_size": "training.local_batch_size"}, SAID)
    if settings["optimizer"] in ("adamw_torch", "adamw_torch_fused"):
        fused = settings["optimizer"].endswith("fused")
        words |= {
            "optimizer.name": "AdamW",
            "optimizer.implementation": "fused" if fused else "foreach",
        }
    return {**words, **_step(settings), **NEW}


OF_PRECISION: Mapping[str, Mapping[str, Value]] = {
    "bf16": {"training.dtype": "bfloat16"},
    "fp32": {"training.mixed_precision_param": "float32"},
}


def _small(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the words for products in 8 bits."""
    recipe = settings.get("float8_recipe")
    kind = "mx" if recipe == "mxfp8" else "float8"
    grouped = [f"quantize.grouped_mm.{kind}"] if settings.get("float8_experts") else []
    words: dict[str, Value] = {"model.converters": [f"quantize.linear.{kind}", *grouped]}
    words[f"quantize.linear.{kind}.filter_fqns"] = ["output"]
    if recipe in RECIPES:
        words[f"{FLOAT8}.recipe_name"] = recipe
    if settings.get("float8_all_gather"):
        words[f"{FLOAT8}.enable_fsdp_float8_all_gather"] = True
    return words


def _step(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the words for the precision, the ranks and what is compiled."""
    precision = str(settings["precision"])
    words = _small(settings) if precision == "fp8-mixed" else dict(OF_PRECISION.get(precision, {}))
    words |= _degrees(settings)
    reshards = settings.get("reshard_after_forward")
    if reshards is not None:
        words[RESHARD] = next(word for word, ours in RESHARDS.items() if ours is reshards)
    if settings.get("reduce_dtype"):
        words[REDUCED] = settings["reduce_dtype"]
    if settings["offload"] == "params":
        words["training.enable_cpu_offload"] = True
    if settings.get("compile"):
        words["compile.enable"] = True
    if settings.get("pipeline_parallel_size", 1) > 1:
        words |= _stages(settings)
    if settings.get("context_parallel_size", 1) > 1:
        words |= _rotation(settings)
    return words


def _rotation(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the word for how ranks of a context hand keys on."""
    asked = settings.get("context_parallel_by")
    word = next((word for word, way in ROTATES.items() if way == asked), None)
    return {"parallelism.context_parallel_rotate_method": word} if word else {}


def _degrees(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the words for ranks that share out, where not all of them share one copy."""
    if settings["shard"] == "none":
        return {f"{DEGREE}shard_degree": 1}
    if settings["shard"] != "hsdp":
        return {}
    sizes = groups(settings)
    return {
        f"{DEGREE}replicate_degree": sizes["dp_replicate_size"],
        f"{DEGREE}shard_degree": sizes["dp_shard_size"],
    }


def _stages(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the words for the order of stages, and for what they run in it."""
    asked = settings.get("pipeline_schedule")
    word = next((word for word in TORCHS if SCHEDULES[word.lower()] == asked), None)
    each, count = settings["batch_size"], settings["gradient_accumulation"]
    partition = settings.get("pp_layer_partition")
    return {
        **({"parallelism.pipeline_parallel_schedule": word} if word else {}),
        "parallelism.pipeline_parallel_microbatch_size": each,
        "training.local_batch_size": each * count,
        **(_parts(partition, str(asked)) if partition else {}),
    }


def _parts(partition: Sequence[int], order: str) -> dict[str, Value]:
    """Name the modules of each stage where they are other ones than torchtitan's own. Raises
    UsageError for stages of two parts, of which the settings do not say each."""
    by = Sharding(pipeline=len(partition), schedule=order)
    if tuple(partition) == layers_of_stages(sum(partition), by, titan=True):
        return {}
    if order == "interleaved":
        raise UsageError(sentence("titan.layers"), where="--emit torchtitan")
    ends = [int(sum(partition[:i])) for i in range(len(partition) + 1)]
    parts = [[f"layers.{i}" for i in range(*both)] for both in pairwise(ends)]
    return {PARTS: [["tok_embeddings", *parts[0]], *parts[1:-1], [*parts[-1], "norm", "output"]]}


def starts(settings: Mapping[str, Value]) -> str:
    """Return the command that starts a new file in torchtitan's repository, with all its ranks. Its
    script starts one machine: on several torchrun does, with the variable that the script sets."""
    ranks = Ranks.of(settings)
    if ranks.machines == 1:
        return f"NGPU={ranks.cards} CONFIG_FILE=run.toml ./run_train.sh"
    allocator = f"{VARIABLES[0]}={GROWING} " if settings.get("expandable_segments") is None else ""
    launched = f"torchrun {by_machine(ranks)} -m torchtitan.train"
    return f"{allocator}{launched} --job.config_file run.toml"


def fetches(repository: str) -> str:
    """Return the command that brings a model to the folder that a new file names."""
    return f"python scripts/download_hf_assets.py --repo_id {repository} --all"


KIND = Kind(
    name="torchtitan",
    title=sentence("title.config", program="torchtitan"),
    syntaxes=("toml",),
    source="https://github.com/pytorch/torchtitan @ v0.2.2",
    tells=tells,
    read=read,
    written=written,
    fresh=fresh,
    fetches=fetches,
    starts=starts,
)
