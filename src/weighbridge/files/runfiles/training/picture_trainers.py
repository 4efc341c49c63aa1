"""Runs of programs that train pipelines: sd-scripts, musubi-tuner, SimpleTuner, diffusers.

    kohya, musubi   accelerate launch sdxl_train_network.py --network_dim 16 ..., or a TOML of it
    simpletuner     config.json, and lycoris_config.json and the data backends beside it
    diffusers       accelerate launch train_dreambooth_lora_flux.py --rank 16 ...

Sources: sd-scripts @ 48d368fa library/train_util.py, train_network.py, library/flux_train_utils.py,
library/config_util.py; musubi-tuner hv_train_network.py; SimpleTuner @ 2026-08-22
simpletuner/examples/; diffusers 0.42 examples/dreambooth, examples/text_to_image.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.shell import commands
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.beside import beside
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, filled, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.training import flags
from weighbridge.files.runfiles.training.picture_names import (
    EXAMPLES,
    FAMILIES,
    NETWORKS,
    PIPELINES,
    WAN,
)
from weighbridge.files.runfiles.training.picture_networks import network, of_unet
from weighbridge.files.runfiles.training.ranks import of_launcher
from weighbridge.models.catalogue.pipelines import file_name, of_file

TASK = "train_image"
KEYS = {
    "kohya": text_beside(__file__, "kohya.txt"),
    "simpletuner": text_beside(__file__, "simpletuner.txt"),
    "diffusers": text_beside(__file__, "diffusers_scripts.txt"),
}
SCRIPT = re.compile(
    r"(?:.*/)?(?P<kohya>(?:sdxl|flux|sd3|lumina)_train(?:_network)?|train_network|fine_tune|train_db)"
    r"\.py|(?:.*/)?(?P<musubi>(?:qwen_image|wan|zimage|flux_2|hv_1_5|hv)_train(?:_network)?)\.py"
    r"|(?:.*/)?(?P<diffusers>train_(?:dreambooth|text_to_image)\w*)\.py"
)
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = re.compile(r"\.(?:safetensors|ckpt|pt|pth|bin)$", re.IGNORECASE)
LORA_MODULES = ("networks.lora", "networks.dylora", "lycoris.kohya")
USUAL_STAGE = 2  # of ZeRO: accelerate's, and sd-scripts' library/deepspeed_utils.py
VIDEOS = ("wan", "hv")  # musubi-tuner's scripts for video
# musubi-tuner docs/dataset_config.md, dataset/config_utils.py: keys of data sets of videos, and the
# frames that a video has at most where all of it is taken
MOVING = frozenset(("video_directory", "video_jsonl_file"))
LONGEST = 129
USUAL = (544, 960)  # height and width by default
MEGAPIXEL = 1024  # pixels of a side for SimpleTuner's area of 1
ENCODED = ("train_dreambooth_lora", "train_text_to_image_sdxl")  # captions, before the steps


def tells(document: Document) -> bool:
    """Return whether a document starts one of these programs."""
    if document.syntax == "shell":
        return next(_lines(document), None) is not None
    data = document.data
    if not isinstance(data, dict):
        return False
    return _simpletuner(data) or _network_module(data).startswith(LORA_MODULES)


def _network_module(data: Mapping[str, Any]) -> str:
    return str(_flat(data).get("network_module") or "")


def _simpletuner(data: Mapping[str, Any]) -> bool:
    return "model_family" in data and ("model_type" in data or "data_backend_config" in data)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each command, or of the config."""
    if document.syntax == "shell":
        for script, program, words, before in _lines(document):
            arguments = flags.document(document.text, words, document.name, document.folder)
            yield _run(program, _with_config(arguments), script, before)
    elif _simpletuner(document.data):
        yield _run("simpletuner", document, "")
    else:
        program, script = NETWORKS.get(_network_module(document.data), ("kohya", ""))
        yield _run(program, replace(document, data=_flat(document.data)), script)


def _lines(document: Document) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield (script, program, words behind it, words before it) of each command that starts one."""
    try:
        all_commands = list(commands(document.text))
    except UsageError:
        return
    for command in all_commands:
        words = [filled(word) for word in command.words]
        for place, word in enumerate(words):
            match = SCRIPT.fullmatch(word)
            if match is not None and match.lastgroup:
                yield match[match.lastgroup], match.lastgroup, words[place + 1 :], words[:place]
                break


def _with_config(arguments: Document) -> Document:
    """Return the arguments, merged over those in the TOML of --config_file, if it exists."""
    config = _beside(arguments, arguments.data.get("config_file"), "toml")
    if config is None or not isinstance(config.data, dict):
        return arguments
    return replace(arguments, data={**_flat(config.data), **arguments.data})


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a TOML without its sections, which only structure it for people."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _beside(document: Document, name: object, syntax: str) -> Document | None:
    """Return a file near the run file: at its path, or by its name only; None if missing."""
    if not isinstance(name, str) or not name:
        return None
    try:
        there = beside(document, name, (syntax,))
        return there or beside(document, file_name(name), (syntax,))
    except BadFileError:
        return None


def _run(program: str, document: Document, script: str, before: Sequence[str] = ()) -> PlannedRun:
    keys = reading(document, KEYS["kohya" if program == "musubi" else program], TASK)
    keys.settings["framework"] = program
    worded(keys)
    rules.decide(keys, script)
    READERS[program](keys, script)
    _launched(keys, before)
    keys.plain()
    return keys.run(_model(keys, program, script))


def _launched(keys: KeyReading, before: Sequence[str]) -> None:
    """Read the ranks of accelerate or torchrun, and the sharding of accelerate's plugin."""
    ranks, plugin = of_launcher("accelerate", before, {}).ranks, flags.mapping(before)
    if ranks is not None and ranks > 1:
        keys.settings["data_parallel_size"] = ranks
    if plugin.get("use_deepspeed"):
        keys.settings["shard"] = f"zero{plugin.get('zero_stage', USUAL_STAGE)}"
    elif plugin.get("use_fsdp"):
        keys.settings["shard"] = "fsdp2"


def worded(keys: KeyReading) -> None:
    """Read the values that the kind's table knows."""
    for key in list(keys.keys.values):
        for name in sorted(
            {name for (name, _), words in keys.keys.phrases.items() if key in words}
        ):
            unknown = keys.value(key) is not None and keys.means(key, name) is None
            if unknown and name == "optimizer" and keys.value(key) != "auto":  # the program chooses
                keys.leave(key, "+- what it keeps is not counted")


def _model(keys: KeyReading, program: str, script: str) -> str:
    if program == "simpletuner":
        return _of_family(keys)
    if program == "musubi" and script.startswith("wan"):
        keys.used |= {"dit", "task"}
        return WAN.get(keys.text("task"), "") or _of_weights(keys)
    key = "pretrained_model_name_or_path"
    named = keys.text(key)
    keys.used |= {key, "dit"}
    if REPOSITORY.fullmatch(named) and not WEIGHTS.search(named):
        keys.knows(key, "model")
        return named
    if keys.text("model_type") == "chroma":
        return "chroma"
    return _of_weights(keys) or _of_script(keys, program, script)


def _of_family(keys: KeyReading) -> str:
    """Return the pipeline of SimpleTuner's model_family and model_flavour, or the weights."""
    family, flavour = keys.text("model_family"), keys.text("model_flavour")
    named = FAMILIES.get((family, flavour)) or FAMILIES.get((family, ""), "")
    weights = keys.text("pretrained_model_name_or_path")
    keys.knows("model_family", "model")
    if flavour and (family, flavour) not in FAMILIES and named:
        keys.leave("model_flavour", f"+- it is taken for {named}")
    if not named and not weights:
        keys.leave("model_family", f"+- {family:.40} is no pipeline that we know")
    return weights or named


def _of_script(keys: KeyReading, program: str, script: str) -> str:
    """Return the pipeline that a script trains, by the script's name."""
    if program == "diffusers":
        return next((name for end, name in EXAMPLES.items() if script.endswith(end)), "")
    begins = (pipeline for start, pipeline in PIPELINES.items() if script.startswith(start))
    pipeline = next(begins, "")
    return "sd-2.1" if pipeline == "sd-1.5" and keys.on("v2") else pipeline


def _of_weights(keys: KeyReading) -> str:
    """Return the pipeline of the weights, by their file's name; "" if unknown."""
    files = (of_file(keys.text(key)) for key in ("pretrained_model_name_or_path", "dit"))
    return next((file.pipeline for file in files if file is not None), "")


def _kohya(keys: KeyReading, script: str) -> None:
    _method(keys, script)
    _uncached(keys, script)
    _resolution(keys, script)


def _method(keys: KeyReading, script: str) -> None:
    adapted = "network" in script or "network_module" in keys.data
    keys.settings["method"] = "lora" if adapted else "full"
    if adapted:
        network(keys, script)


def _uncached(keys: KeyReading, script: str) -> None:
    """Read what is not cached: musubi-tuner always caches; sd-scripts do if the user sets it."""
    trains_text = not script or not keys.on("network_train_unet_only")
    if "uncached_text" not in keys.settings or not trains_text or not of_unet(script):
        return
    if "lora" in str(keys.value("network_module") or ""):
        keys.settings["train_text_encoder"] = True


def _resolution(keys: KeyReading, script: str) -> None:
    """Read size, frames and batch of the largest bucket, from the arguments or the dataset
    config."""
    _sized(keys, "resolution")
    file = keys.value("config_file")
    if file and _beside(keys.document, file, "toml") is None:
        keys.lacks("config_file", str(file))
    name = keys.value("dataset_config")
    config = _beside(keys.document, name, "toml")
    if name and config is None:
        keys.lacks("dataset_config", str(name))
    if config is not None and isinstance(config.data, dict):
        _largest(keys, config.data, script)


def _largest(keys: KeyReading, data: Mapping[str, Any], script: str) -> None:
    """Read the largest bucket in a dataset config."""
    general = data.get("general")
    shared = general if isinstance(general, dict) else {}
    sets = [{**shared, **one} for one in _list(data.get("datasets")) if isinstance(one, dict)]
    buckets = [_bucket(one) for one in sets or [shared]]
    largest = max(buckets, key=lambda bucket: bucket.numbers)
    if largest.size:
        keys.set("size", largest.size, "dataset_config")
    elif keys.settings["framework"] == "musubi":
        keys.default("size", USUAL, sentence("own_name", framework="musubi", name="resolution"))
    if largest.batch:
        keys.set("batch_size", largest.batch, "dataset_config")
    if keys.settings["framework"] == "musubi" and script.startswith(VIDEOS):
        keys.set("frames", largest.frames, "dataset_config")
        if largest.most:
            keys.leave("dataset_config", f"- videos may have fewer than {largest.frames} frames")


class DataBucket(NamedTuple):
    """The largest bucket of a dataset. `most`: its frames are those of the longest video."""

    size: tuple[int, int] | None
    batch: int
    frames: int
    most: bool

    @property
    def numbers(self) -> int:
        height, width = self.size or (1, 1)
        return height * width * self.frames * max(self.batch, 1)


def _bucket(one: Mapping[str, Any]) -> DataBucket:
    """Return the largest bucket of an sd-scripts or musubi-tuner dataset. For video it has the
    longest of target_frames, or all frames up to max_frames; the autoencoder cuts each to 4n +
    1."""
    batch = one.get("batch_size")
    whole = one.get("frame_extraction") == "full"
    target = one.get("max_frames", LONGEST) if whole else one.get("target_frames")
    counts = [n for n in (target if isinstance(target, list) else [target]) if isinstance(n, int)]
    return DataBucket(
        size=_pixels(one.get("resolution")),
        batch=batch if isinstance(batch, int) else 0,
        frames=max((n for n in counts if n > 0), default=1) if MOVING & one.keys() else 1,
        most=whole and bool(MOVING & one.keys()),
    )


def _sized(keys: KeyReading, key: str) -> None:
    if size := _pixels(keys.value(key)):
        keys.set("size", size, key)


def _pixels(value: object) -> tuple[int, int] | None:
    """Return (height, width) of 1024, "1024,768" and [1024, 768], width first."""
    sides = re.findall(r"\d+", str(value)) if isinstance(value, int | str | list) else []
    return (int(sides[-1]), int(sides[0])) if len(sides) in (1, 2) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _simple(keys: KeyReading, script: str) -> None:
    if keys.settings["method"] == "lora" and keys.value("lora_type") == "lycoris":
        _lycoris(keys)
    keys.take("ramtorch_transformer_percent", "offload_fraction", lambda percent: percent / 100)
    _area(keys)


def _lycoris(keys: KeyReading) -> None:
    name = keys.text("lycoris_config")
    config = _beside(keys.document, name, "json")
    if config is None or not isinstance(config.data, dict):
        keys.lacks("lycoris_config", name or "lycoris_config.json")
        return
    data = config.data
    if data.get("algo") not in ("lokr", "loha"):
        keys.leave("lycoris_config", f"{data.get('algo')!s:.20} is not counted")
        return
    keys.set("method", data["algo"], "lycoris_config")
    preset = data.get("apply_preset")
    kinds = preset.get("module_algo_map") if isinstance(preset, dict) else None
    factors = [f"{kind}={one['factor']}" for kind, one in _factors(kinds)]
    if data["algo"] == "lokr" and factors:
        keys.set("lokr_factors", factors, "lycoris_config")


def _factors(kinds: object) -> Iterator[tuple[str, Mapping[str, int]]]:
    for kind, one in kinds.items() if isinstance(kinds, dict) else ():
        if kind in ("Attention", "FeedForward") and isinstance(one, dict) and one.get("factor"):
            yield kind, one


def _area(keys: KeyReading) -> None:
    """Read the area in pixels or megapixels; the largest of the data backends."""
    areas = [(keys.value("resolution"), keys.value("resolution_type"), "resolution")]
    name = keys.text("data_backend_config")
    backends = _beside(keys.document, name, "json")
    if name and backends is None:
        keys.lacks("data_backend_config", name)
    sets = _list(None if backends is None else backends.data)
    areas += [
        (one.get("resolution"), one.get("resolution_type"), "data_backend_config")
        for one in sets
        if isinstance(one, dict) and not str(one.get("dataset_type", "")).startswith("text")
    ]
    sides = [(side, key) for value, kind, key in areas if (side := _side(value, kind))]
    if sides:
        side, key = max(sides)
        keys.set("size", (side, side), key)


def _side(value: object, kind: object) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        return 0
    return round(value**0.5 * MEGAPIXEL) if kind == "area" else int(value)


def _examples(keys: KeyReading, script: str) -> None:
    """Read what a diffusers script decides by itself. It encodes captions before the steps if all
    are equal, or in train_text_to_image_sdxl."""
    keys.settings.setdefault("method", "lora" if "lora" in script else "full")
    _example_sizes(keys, script)
    if not script.startswith(ENCODED):
        keys.settings["uncached_text"] = True
    if not (keys.on("cache_latents") or script == "train_text_to_image_sdxl"):
        keys.settings["uncached_latents"] = True


def _example_sizes(keys: KeyReading, script: str) -> None:
    """Read the rank, the batch and the size, or the script's defaults."""
    _sized(keys, "resolution")
    keys.take("train_batch_size", "batch_size")
    side = 1024 if script.endswith("sdxl") else 512
    batch = 4 if "dreambooth" in script else 16
    usual = {"train_batch_size": ("batch_size", batch), "resolution": ("size", (side, side))}
    if keys.take("rank", "lora_r") is None and "lora" in script:
        usual["rank"] = "lora_r", 4
    for name, (setting, value) in usual.items():
        keys.default(setting, value, sentence("own_name", framework=script, name=name))


READERS = {"kohya": _kohya, "musubi": _kohya, "simpletuner": _simple, "diffusers": _examples}
KIND = Kind(
    name="picture-trainer",
    title=sentence("title.picture_trainer"),
    syntaxes=("toml", "json", "yaml", "shell"),
    source="https://github.com/kohya-ss/sd-scripts @ 48d368fa",
    tells=tells,
    read=read,
)
