"""Configs of ai-toolkit: `job: extension` with a list of processes, of which each trains.

    network    the adapter; without it all is trained          datasets   sizes, frames, caches
    train      batch, dtype, optimizer, checkpoints            model      arch, formats, offloading

Nothing is multiplied under autocast: `train.dtype` is that of the base, adapters are in float32.
Source: ai-toolkit @ 27a03a91 toolkit/config_modules.py (NetworkConfig, TrainConfig, ModelConfig,
DatasetConfig: what each is where it is not said), toolkit/util/quantize.py (get_qtype),
toolkit/memory_management/manager.py (attach), jobs/process/BaseSDTrainProcess.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.tables import table
from weighbridge.files.runfiles.training.picture_trainers import REPOSITORY, TASK, worded
from weighbridge.models.catalogue import pipelines

KEYS = text_beside(__file__, "ai_toolkit.txt")
NAMES = table(KEYS).names
TITLE = "ai-toolkit"
TRAINS = ("sd_trainer", "diffusion_trainer", "ui_trainer", "concept_slider")
ARCHES = NAMES["model.arch"]
SWITCHES = NAMES["switch"]
QTYPES: dict[str, str] = {
    "qfloat8": "quanto-float8",
    "qint8": "quanto-int8",
    "qint4": "quanto-int4",
    "float8": "torchao-fp8",
    "int8": "torchao-int8",
    **{f"uint{bits}": f"torchao-uint{bits}" for bits in range(2, 8)},
}
# of text encoders all linears, unlike transformers' loader: as many bytes per element
OF_TEXT = {"qfloat8": "torchao-fp8", "qint8": "torchao-int8"}
USUAL, BOUNCED = "qfloat8", "float8"  # the format, and where layers wait in host memory
BEFORE = ("cache_text_embeddings", "unload_text_encoder")
PIXELS = 512
OWNER = "ai-toolkit/"  # its repositories are published models in another dtype
TWO = "wan22_14b"  # two experts; with low_vram the one that does not train leaves the card


def tells(document: Document) -> bool:
    """Return whether a document is a job with a process that trains."""
    return next(_processes(document), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each process that trains."""
    for number in _processes(document):
        yield _run(reading(document, KEYS, TASK, ("config", "process", number)))


def _processes(document: Document) -> Iterator[int]:
    data = document.data
    config = data.get("config") if isinstance(data, dict) and "job" in data else None
    each = config.get("process") if isinstance(config, dict) else None
    for number, one in enumerate(each if isinstance(each, list) else ()):
        if (
            isinstance(one, dict)
            and one.get("type") in TRAINS
            and isinstance(one.get("model"), dict)
        ):
            yield number


def _run(keys: KeyReading) -> PlannedRun:
    keys.settings["framework"] = TITLE
    worded(keys)
    rules.decide(keys, TITLE)
    _accumulated(keys)
    model = _model(keys)
    _datasets(keys, model)
    _formats(keys)
    keys.plain()
    return keys.run(model)


def _default(keys: KeyReading, setting: str, value: Any, name: str) -> None:
    keys.default(setting, value, sentence("own_name", framework=TITLE, name=name))


def _accumulated(keys: KeyReading) -> None:
    steps = 1
    for key in ("train.gradient_accumulation_steps", "train.gradient_accumulation"):
        count = keys.value(key)
        steps *= count if isinstance(count, int) and count > 0 else 1
    if steps > 1:
        keys.settings["gradient_accumulation"] = steps


def _datasets(keys: KeyReading, model: str) -> None:
    """Read the largest bucket, and whether latents and captions are cached before training."""
    listed = keys.value("datasets")
    sets = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    _sizes(keys, sets, model)
    if not _all(sets, "cache_latents", "cache_latents_to_disk"):
        keys.settings["uncached_latents"] = True
    early = any(keys.on(f"train.{name}") for name in BEFORE)
    if not early and not _all(sets, BEFORE[0]):
        keys.settings["uncached_text"] = True
    if any({"control_path", "control_path_1"} & one.keys() for one in sets):
        keys.leave("datasets", "+ tokens of control images are not counted")


def _sizes(keys: KeyReading, sets: Sequence[Mapping[str, Any]], model: str) -> None:
    side = max((side for one in sets for side in _sides(one)), default=PIXELS)
    frames = max((f for one in sets for f in _whole(one.get("num_frames"))), default=1)
    if sets:
        keys.set("size", (side, side), "datasets")
    _default(keys, "size", (side, side), "datasets.resolution")
    pipeline = pipelines.find(model) or pipelines.of_repository(model)
    if frames > 1 or pipeline is None or pipeline.recipe.get("kind") == "video":
        _default(keys, "frames", frames, "datasets.num_frames")


def _all(sets: Sequence[Mapping[str, Any]], *switches: str) -> bool:
    return bool(sets) and all(any(one.get(name) for name in switches) for one in sets)


def _sides(one: Mapping[str, Any]) -> list[int]:
    value = one.get("resolution", PIXELS)
    return _whole(*(value if isinstance(value, list) else [value]))


def _whole(*values: object) -> list[int]:
    return [n for n in values if isinstance(n, int) and not isinstance(n, bool)]


def _formats(keys: KeyReading) -> None:
    """Read the formats of the base and of the text encoders, which default to the base's."""
    usual = BOUNCED if "streaming" in keys.settings else USUAL
    forms = []
    if keys.on("model.quantize") and keys.settings["method"] != "full":
        forms.append(_format(keys, "model.qtype", usual, QTYPES))
    if keys.value("model.quantize_te", keys.on("model.quantize")):
        form = _format(keys, "model.qtype_te", usual, QTYPES | OF_TEXT)
        forms.append(form and f"text={form}")
    if any(forms):
        keys.set("quantization", "+".join(filter(None, forms)), "model.quantize")


def _format(keys: KeyReading, key: str, usual: str, known: Mapping[str, str]) -> str:
    """Return the format in a key; "" for an unknown one. An adapter file's name may follow it."""
    name, _, adapters = str(keys.value(key, USUAL)).partition("|")
    if adapters:
        keys.leave(key, "+ an adapter that is frozen is not counted")
    name = usual if name == USUAL else name
    if name not in known:
        keys.leave(key, f"- {name:.20} is not counted")
    return known.get(name, "")


def _model(keys: KeyReading) -> str:
    """Return the model: its repository if weighbridge knows it, else the pipeline of its arch."""
    name, arch = keys.text("model.name_or_path"), _arch(keys)
    keys.knows("model.name_or_path", "model")
    if pipelines.of_repository(name) is not None:
        return name
    named = ARCHES.get(arch, "")
    if named and not name.startswith(OWNER):
        keys.leave("model.name_or_path", f"+- it is taken for {named}")
    return named or (name if REPOSITORY.fullmatch(name) else "")


def _arch(keys: KeyReading) -> str:
    """Return the model's arch, which older files set by a switch."""
    switched = (of for switch, of in SWITCHES.items() if keys.on(f"model.{switch}"))
    arch = keys.text("model.arch").partition(":")[0] or next(switched, "")
    if arch.startswith(TWO) and not keys.on("model.low_vram"):
        keys.leave("model.arch", "+ the second transformer is on the card, too, and not counted")
    return arch


KIND = Kind(
    name=TITLE,
    title=sentence("title.ai_toolkit"),
    syntaxes=("yaml", "json"),
    source="https://github.com/ostris/ai-toolkit @ 27a03a91",
    tells=tells,
    read=read,
)
