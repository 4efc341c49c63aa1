"""Settings of each task; the command line, requests and Python read them in the same way.

    read("infer", {"context": "8K"}) -> Infer(context=8192)

Unknown keys and wrong values raise UsageError, in one line. A setting that only other engines have
is refused (`foreign`): to ignore it silently would be a guess.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighbridge.base import lazily
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.parsed import Deferred
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.settings import SPREAD
from weighbridge.settings.setting import Setting, Settings, fields

if TYPE_CHECKING:
    from weighbridge.workload.infer import Infer
    from weighbridge.workload.load import Load
    from weighbridge.workload.train import Train


__all__ = [
    "COMMON",
    "FIT",
    "FSDP",
    "INFER",
    "LOAD",
    "MOST_BESIDE",
    "PICTURE",
    "PICTURE_TRAINING",
    "SPREAD",
    "TABLES",
    "TRAIN",
    "TUNE",
    "Infer",
    "Load",
    "Table",
    "Train",
    "besides",
    "checked",
    "engines_of",
    "foreign",
    "layouts",
    "named_task",
    "read",
]

Table = Mapping[str, Setting[Any]]
FSDP = ("fsdp1", "fsdp2", "hsdp")  # values of `shard` that split everything a rank holds
MOST_BESIDE = 12  # most answers shown together, on the command line and on the page


SAME = {"video": "image", "picture": "image", "picture_training": "train_image"}  # task aliases
MODULES = {"image": "picture", "train_image": "picture_training"}  # module, if named otherwise


def _class(task: str) -> type[Settings]:
    """Return the class of a task's settings; its module is imported on first use."""
    module = MODULES.get(task, task)
    named = module.title().replace("_", "")
    declared: type[Settings] = getattr(import_module(f"{__name__}.{module}"), named)
    return declared


def _serving() -> Table:
    """Return the settings of serving by name: the shared ones by section, then each engine's
    own."""
    from weighbridge.engines.table import ENGINES
    from weighbridge.settings.shared import SECTIONS

    table: dict[str, Setting[Any]] = {}
    for declared in (*SECTIONS, *(engine.settings for engine in ENGINES.values())):
        for name, setting in fields(declared).items():
            table.setdefault(name, setting)
    return table


def _asked() -> Table:
    """Return the settings of `fit` by name: those of `infer` and `train` except `method`, `exact`
    and those of rewards and preferences. It tries methods itself, and traces nothing."""
    table = {**INFER, **{name: one for name, one in TUNE.items() if name not in INFER}}
    del table["method"], table["exact"]
    batch = INFER["batch_size"]
    table["batch_size"] = batch.but(worded=("Fit.batch_size", *batch.worded))
    return table


def _tuning() -> Table:
    """Return the settings of training by name, without those of rewards and preferences."""
    from weighbridge.workload.train import OF_LEARNING, RolloutSettings

    without = {*OF_LEARNING, *fields(RolloutSettings)}
    return {name: one for name, one in TRAIN.items() if name not in without}


LOAD: Table = Deferred(lambda: fields(_class("load")))
INFER: Table = Deferred(_serving)
TRAIN: Table = Deferred(lambda: fields(_class("train")))
TUNE: Table = Deferred(_tuning)
FIT: Table = Deferred(_asked)
PICTURE: Table = Deferred(lambda: fields(_class("image")))
PICTURE_TRAINING: Table = Deferred(lambda: fields(_class("train_image")))
TABLES: Mapping[str, Table] = {  # by the task of a request
    "load": LOAD,
    "infer": INFER,
    "train": TRAIN,
    "fit": FIT,
    "image": PICTURE,
    "train_image": PICTURE_TRAINING,
}


def named_task(task: Any) -> Any:
    """Return the key in `TABLES` for a task or command name; anything else is returned
    unchanged."""
    if not isinstance(task, str):
        return task
    name = task.replace("-", "_")
    return SAME.get(name, name)


def read(task: str, settings: Mapping[str, Any]) -> Any:
    """Return the settings of `task` as an object, each value parsed and checked; None means unset.
    Raises UsageError."""
    table = TABLES[task]
    unknown = sorted(settings.keys() - table.keys())
    if unknown:
        raise UsageError(
            sentence("no_setting", task=task, name=unknown[0], near=_near(unknown[0], table))
        )
    values = {name: table[name].value(v) for name, v in settings.items() if v is not None}
    return _class(task)(**values)


def checked(task: str, settings: Any) -> Any:
    """Return `settings`, a settings object of the caller, with each value parsed as `read` does.
    Raises UsageError."""
    declared, table = _class(task), TABLES[task]
    if not isinstance(settings, declared):
        named = settings.__name__ if isinstance(settings, type) else type(settings).__name__
        wanted = declared.__name__
        raise UsageError(sentence("settings.kind", task=task, wanted=wanted, name=named))
    values = {name: value for name, value in settings.said.items() if name in table}
    return settings.but(**{name: table[name].value(value) for name, value in values.items()})


def besides(task: str, asked: Settings, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, by name, that `asked` sets and `named` lacks, as JSON values; False is
    left out."""
    values = {name: asked.said[name] for name in TABLES[task] if name in asked.said}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if name not in named and value is not False
    }


def _near(name: str, known: Table) -> str:
    flag = f"--{name.replace('_', '-')}"
    alias = next((n for n in known if flag in known[n].flags), None)
    if alias is not None:
        return sentence("near.alias", name=alias)
    close = spelled_like(name, known, 3)
    if close:
        return sentence("near", names=" or ".join(close))
    return sentence("near.known", names=", ".join(sorted(known)))


@cache
def engines_of(setting: Setting[Any]) -> tuple[str, ...]:
    """Return the names of the engines that have `setting`; () means every engine."""
    from weighbridge.engines.table import ENGINES  # a start reads one record, or none

    if not any(setting.owner in engine.settings.__mro__ for engine in ENGINES.values()):
        return ()
    having = tuple(e.name for e in ENGINES.values() if setting.name in fields(e.settings))
    return () if len(having) == len(ENGINES) else having


def foreign(w: "Infer", engine: str) -> None:
    """Raise ContradictionError if the user set a setting that `engine` does not have, but others
    do."""
    said = w.said
    for name in (name for name in INFER if name in said):
        if said[name] is None or said[name] is False:
            continue
        setting = INFER[name]
        having = engines_of(setting)
        if not having or engine in having:
            continue
        theirs = " and ".join(having)
        raise ContradictionError(
            sentence("foreign", flag=setting.flag, engines=theirs, engine=engine)
        )


def layouts(count: int) -> Iterator[dict[str, int]]:
    """Yield the settings that spread a server over `count` cards, none for one card. First, if they
    fill several machines: tensor parallel within each, with a pipeline stage per machine; then
    tensor parallel over all; then pipeline stages."""
    if count < 2:
        return
    from weighbridge.machines.accelerators.machines import MACHINE, filled  # for several cards only

    tensor, pipeline, _ = SPREAD
    if stages := filled(count):
        yield {tensor: MACHINE, pipeline: stages}
    yield {tensor: count}
    yield {pipeline: count}


if not TYPE_CHECKING:  # else a type checker would accept any name as one of this package
    __getattr__ = lazily.named(__name__, {"Infer": "infer", "Load": "load", "Train": "train"})


# The most used settings per task, which help and schemas list first
_COMMON = {
    "fit": """
        gpu gpu_memory engine quantization context batch_size seq_len checkpointing shard
        tensor_parallel_size kv_cache_dtype ram
    """,
    "infer": """
        gpu gpu_memory engine quantization dtype context batch_size kv_cache_dtype
        tensor_parallel_size gpu_memory_utilization max_num_seqs n_gpu_layers cache_type_k
        cache_type_v parallel ram
    """,
    "train": """
        gpu gpu_memory method framework seq_len batch_size optimizer checkpointing precision
        quantization lora_r lora_targets shard gradient_accumulation loss attention ram
    """,
    "image": """
        gpu gpu_memory ram size frames seconds batch_size quantization offload vae_tiling
        guidance dtype engine
    """,
    "train_image": """
        gpu gpu_memory ram method framework size frames batch_size checkpointing optimizer
        quantization lora_r blocks_to_swap
    """,
    "load": "gpu gpu_memory quantization dtype device_map ram",
}
COMMON: Mapping[str, tuple[str, ...]] = {
    task: tuple(names.split()) for task, names in _COMMON.items()
}
