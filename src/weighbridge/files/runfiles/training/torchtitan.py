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
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.tables import phrased, table, worded
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
DEGREE = "parallelism.data_parallel_"
RESHARD = "parallelism.fsdp_reshard_after_forward"
RESHARDS = {"always": True, "never": False}  # "default" is neither of these
PARTS = "parallelism.module_fqns_per_model_part"
REDUCED = "training.mixed_precision_reduce"
# Converters of linears and of experts; mx scales are per 32 elements
LINEARS = {"quantize.linear.float8": "", "float8": "", "quantize.linear.mx": "mxfp8", "mx": "mxfp8"}
GROUPED = {"quantize.grouped_mm.float8": "", "quantize.grouped_mm.mx": "mxfp8"}
FLOAT8 = "quantize.linear.float8"
RECIPES = {  # without one a scale is per tensor, and layers may be gathered in 8 bits
    "tensorwise": "tensorwise",
    "rowwise": "rowwise",
    "rowwise_with_gw_hp": "rowwise",
}
BLOCKS = "_irope"  # Llama 4's layers that attend in blocks, by flex attention: it keeps as much
NAMES = table(KEYS).names


def tells(document: Document) -> bool:
    """Return whether a document is torchtitan's: a model's flavor, and how it trains."""
    data = document.data
    return (
        isinstance(data, dict)
        and all(isinstance(data.get(name), dict) for name in OWN)
        and "flavor" in data["model"]
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    keys = reading(document, KEYS)
    keys.settings |= {"framework": "torchtitan", "method": "full"}
    _small_products(keys)
    _ranks(keys)
    model = _model(keys)
    keys.plain()
    rules.decide(keys, "torchtitan")
    if keys.settings.get("pipeline_parallel_size", 1) != 1:
        _pipelined(keys)
    yield keys.run(model)


def _model(keys: KeyReading) -> str:
    """Return the model. Its flavor decides the shape; the folder of its assets says whose weights
    they are, or stands for an unknown flavor."""
    keys.used.update(("model.name", "model.flavor", "model.hf_assets_path"))
    named = keys.text("hf_transformers.model")
    if named:
        keys.take("hf_transformers.model", "model")
        return named
    family, flavor = str(keys.value("model.name")), str(keys.value("model.flavor"))
    built = [family, flavor.removesuffix(BLOCKS)]
    shape = next((shape for shape, flavored in FLAVORS.items() if flavored == built), "")
    known = _of_assets(keys)
    if shape:
        return _flavored(keys, shape, known)
    if known and family not in {flavored[0] for flavored in FLAVORS.values()}:
        keys.take("model.hf_assets_path", "model")
        return known
    flavor = f"{family} {flavor}"
    keys.leave("model.flavor", f"{flavor:.60} names no model of the Hub; --model says which")
    return ""


def _of_assets(keys: KeyReading) -> str:
    """Return the model in the name of the assets' folder; "" if it names none."""
    path = keys.text("model.hf_assets_path")
    known = model_of(path).removeprefix("hf/") if path else ""
    return "" if known.rpartition("/")[2].lower() in ("tokenizer", "assets") else known


def _flavored(keys: KeyReading, shape: str, known: str) -> str:
    """Return the model of a flavor: its assets' if the shape matches, else the published one, with
    a note if the folder names a model of another shape."""
    meaning = everyday.meaning(known.rpartition("/")[2]) if known else None
    if meaning is not None and shape_name(meaning.entry.config) == shape:
        keys.take("model.hf_assets_path", "model")
        return known
    keys.knows("model.flavor", "model")
    if meaning is not None:
        keys.notes.append(sentence("titan.flavor", flavor=keys.value("model.flavor"), model=known))
    return PUBLISHED.get(shape, shape)


SMALL_PRODUCTS = re.compile("float8|mx")  # converters to 8 bits


def _small_products(keys: KeyReading) -> None:
    """Read which products run in 8 bits: FP8 linears are estimated over float32 weights, gathered
    in bfloat16."""
    halves = keys.value("training.dtype"), keys.value("training.mixed_precision_param", "bfloat16")
    wide = halves[0] != "bfloat16" and halves[1] == "bfloat16"
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


def _ranks(keys: KeyReading) -> None:
    (replicas, where), (shards, _) = _degree(keys, "replicate", 1), _degree(keys, "shard", -1)
    if shards == 1:
        keys.settings["shard"] = "ddp" if replicas > 1 else "none"
    else:
        keys.settings["shard"] = "hsdp" if replicas > 1 else "fsdp2"
        if replicas > 1:
            keys.set("data_parallel_replicas", replicas, where)
    if shards > 1:
        keys.settings["data_parallel_size"] = shards * max(1, replicas)


def _degree(keys: KeyReading, what: str, otherwise: int) -> tuple[int, str]:
    """Return (degree, key): a data-parallel degree and its key; in older files it is in
    [training]."""
    names = [f"{room}.data_parallel_{what}_degree" for room in ("parallelism", "training")]
    degrees = {name: keys.value(name) for name in names}
    known = ((value, name) for name, value in degrees.items() if isinstance(value, int))
    return next(known, (otherwise, names[0]))


def _pipelined(keys: KeyReading) -> None:
    """Read the micro-batches of a rank's sequences: by default one sequence each
    (pipeline_parallel_microbatch_size), or an older key's count. Also read the layers per stage, if
    the modules of all stages are listed."""
    size = "parallelism.pipeline_parallel_microbatch_size"
    rooms = ("parallelism", "experimental")
    counts = [f"{room}.pipeline_parallel_microbatches" for room in rooms]
    whole = keys.settings["batch_size"]
    each = _micro_batch(keys, whole, size, counts)
    if each and whole % each == 0:
        keys.settings["batch_size"], keys.settings["gradient_accumulation"] = each, whole // each
        for key in (key for key in (size, *counts) if keys.value(key) is not None):
            keys.knows(key, "gradient_accumulation")
    named, stages = keys.value(PARTS), keys.settings["pipeline_parallel_size"]
    if named in (None, []) or not isinstance(stages, int):
        return
    if not _are_parts(named) or len(named) % stages:
        keys.leave(PARTS, f"+- it is no list of modules for each part of {stages} stages")
    else:
        keys.set("pp_layer_partition", _layers_of_stages(named, stages), PARTS)


def _micro_batch(keys: KeyReading, whole: int, size: str, counts: Sequence[str]) -> int:
    """Return the sequences per micro-batch, by their key or by the number of micro-batches."""
    numbers = [number for key in counts if isinstance(number := keys.value(key), int)]
    count = next((number for number in numbers if number > 0), None)
    each = keys.value(size, 1)
    return whole // count if count else each if isinstance(each, int) and each > 0 else 1


def _layers_of_stages(parts: Sequence[Sequence[object]], stages: int) -> list[int]:
    """Return the number of layers per rank, which may have several stages."""
    counts = [sum(str(name).startswith("layers.") for name in part) for part in parts]
    return [sum(counts[i::stages]) for i in range(stages)]


def _are_parts(named: object) -> bool:
    """Return whether a value is lists of modules, with layers' names in them."""
    lists = isinstance(named, list) and all(isinstance(part, list) and part for part in named)
    return lists and any(str(x).startswith("layers.") for part in named for x in part)  # type: ignore[attr-defined]


WRITTEN: Mapping[str, str] = {
    "batch_size": "training.local_batch_size|training.batch_size",
    "seq_len": "training.seq_len",
}
SAID = table(KEYS).phrases


def written(change: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """Return changed settings of ours as keys of the file, None if it has no keys for them."""
    return phrased(change, WRITTEN, SAID)


# A new file: v0.2.2 is the last release that reads TOML, whose keys are in config/job_config.py
FLAVORS = {shape: flavor.split("/") for shape, flavor in NAMES["flavor"].items()}
PUBLISHED = NAMES["published"]  # one published model per shape
NEW: Mapping[str, Value] = {  # further keys of a new file: a small dataset of its repository
    "training.dataset": "c4_test",
    "training.steps": 1000,
    "optimizer.lr": 3e-5,
    "checkpoint.enable": True,
    "checkpoint.initial_load_in_hf": True,  # starts from the weights in hf_assets_path
}
FEW = frozenset(("loss", "lora_targets", "modules_to_save", "optim_args"))
ASSETS = "./assets/hf"


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for a model without a
    known torchtitan flavor."""
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
    """Return the keys for products in 8 bits."""
    recipe = settings.get("float8_recipe")
    kind = "mx" if recipe == "mxfp8" else "float8"
    grouped = [f"quantize.grouped_mm.{kind}"] if settings.get("float8_experts") else []
    words: dict[str, Value] = {"model.converters": [f"quantize.linear.{kind}", *grouped]}
    words[f"quantize.linear.{kind}.filter_fqns"] = ["output"]
    if recipe in ("tensorwise", "rowwise"):
        words[f"{FLOAT8}.recipe_name"] = recipe
    if settings.get("float8_all_gather"):
        words[f"{FLOAT8}.enable_fsdp_float8_all_gather"] = True
    return words


def _step(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the keys for the precision, the ranks and compilation."""
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
    return words


def _degrees(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the keys for sharding, unless all ranks shard one replica."""
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
    """Return the keys for the pipeline's schedule and micro-batches."""
    asked = settings.get("pipeline_schedule")
    each, count = settings["batch_size"], settings["gradient_accumulation"]
    partition = settings.get("pp_layer_partition")
    return {
        "parallelism.pipeline_parallel_microbatch_size": each,
        "training.local_batch_size": each * count,
        **(_parts(partition, str(asked)) if partition else {}),
    }


def _parts(partition: Sequence[int], order: str) -> dict[str, Value]:
    """Return the modules of each stage, if torchtitan would choose others. Raises UsageError for
    two stages per rank, which our settings do not state."""
    by = Sharding(pipeline=len(partition), schedule=order)
    if tuple(partition) == layers_of_stages(sum(partition), by, titan=True):
        return {}
    if order == "interleaved":
        raise UsageError(sentence("titan.layers"), where="--emit torchtitan")
    ends = [int(sum(partition[:i])) for i in range(len(partition) + 1)]
    parts = [[f"layers.{i}" for i in range(*both)] for both in pairwise(ends)]
    return {PARTS: [["tok_embeddings", *parts[0]], *parts[1:-1], [*parts[-1], "norm", "output"]]}


def starts(settings: Mapping[str, Value]) -> str:
    """Return the command that starts a new file in torchtitan's repository. Its script starts one
    machine; for several it is torchrun, with the variable that the script would set."""
    ranks = Ranks.of(settings)
    if ranks.machines == 1:
        return f"NGPU={ranks.cards} CONFIG_FILE=run.toml ./run_train.sh"
    allocator = f"{VARIABLES[0]}={GROWING} " if settings.get("expandable_segments") is None else ""
    launched = f"torchrun {by_machine(ranks)} -m torchtitan.train"
    return f"{allocator}{launched} --job.config_file run.toml"


def fetches(repository: str) -> str:
    """Return the command that downloads a model to the folder in the new file."""
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
