"""Configs and presets of OneTrainer: JSON, with a part for each component.

    transformer, unet, prior   weight_dtype, offload_fraction, gradient_checkpointing,
                               activation_offloading; before version 11 one of each for all parts
    text_encoder ... _4, vae   weight_dtype, train

Source: OneTrainer @ 23df3832 modules/util/config/TrainConfig.py (default_values, __migration_10),
modules/util/enum/ModelType.py, Optimizer.py, DataType.py, modules/util/quantization_util.py,
modules/util/optimizer_util.py, training_presets/.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.tables import table
from weighbridge.files.runfiles.training.picture_trainers import TASK, worded
from weighbridge.models.catalogue import pipelines

KEYS = text_beside(__file__, "onetrainer.txt")
NAMES = table(KEYS).names
TITLE = "onetrainer"
MODELS = NAMES["model_type"]
DTYPES = NAMES["weight_dtype.dtype"]
FORMATS: Mapping[str, str] = {"NFLOAT_4": "nf4-dq", "INT_8": "bnb-int8", "FLOAT_8": "fp8"}
EIGHT = ("FLOAT_W8A8", "INT_W8A8", "FLOAT_W8A8_COMPRESSED", "INT_W8A8_COMPRESSED")
OPTIMIZERS = NAMES["optimizer"]
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
PIXELS, FRAMES = 512, 25
AWAY = "CPU_OFFLOADED"  # older files: offloads blocks, or their inputs


def tells(document: Document) -> bool:
    """Return whether a document is a config: its model type is in capitals."""
    data = document.data
    if not isinstance(data, dict) or not ("training_method" in data or "base_model_name" in data):
        return False
    return re.fullmatch(r"[A-Z][A-Z0-9_]+", str(data.get("model_type"))) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run."""
    keys = reading(document, KEYS, TASK)
    keys.settings["framework"] = TITLE
    worded(keys)
    rules.decide(keys, "OneTrainer")
    if keys.settings["method"] != "full":
        _layers(keys)
    _sizes(keys)
    _optimizer(keys)
    part = next((p for p in ("transformer", "unet", "prior") if keys.value(p)), "transformer")
    _base(keys, part)
    _offloaded(keys, part)
    _encoders(keys)
    keys.plain()
    yield keys.run(_model(keys))


def _default(keys: KeyReading, setting: str, value: Any, name: str) -> None:
    keys.default(setting, value, sentence("own_name", framework="OneTrainer", name=name))


def _model(keys: KeyReading) -> str:
    """Return the model: its repository if weighbridge knows it, else the pipeline of its type."""
    name, kind = keys.text("base_model_name"), keys.text("model_type")
    keys.knows("model_type", "model")
    if pipelines.of_repository(name) is not None:
        return name
    if name and kind in MODELS:
        keys.leave("base_model_name", f"+- it is taken for {MODELS[kind]}")
    return MODELS.get(kind, "")


def _layers(keys: KeyReading) -> None:
    """Read which layers have adapters: those with one of the given words in their paths."""
    for key in ("layer_filter", "lora_layers"):
        words = [word.strip() for word in keys.text(key).split(",") if word.strip()]
        if words and (keys.on("layer_filter_regex") or keys.on("lora_layers_regex")):
            keys.leave(key, "- all layers are counted")
        elif words:
            keys.set("lora_targets", [f"*{word}*" for word in words], key)


def _sides(text: str) -> tuple[int, int]:
    """Return (height, width) of "1024" or "768x1024"."""
    sides = [int(word) for word in text.strip().split("x") if word.strip().isdigit()] or [PIXELS]
    return sides[-1], sides[0]


def _sizes(keys: KeyReading) -> None:
    """Read the largest of several sizes: a side, or width x height."""
    text = str(keys.value("resolution") or "")
    if text:
        sizes = map(_sides, text.split(","))
        keys.set("size", max(sizes, key=lambda size: size[0] * size[1]), "resolution")
    _default(keys, "size", (PIXELS, PIXELS), "resolution")
    frames = str(keys.value("frames") or FRAMES)
    if keys.text("model_type") == "HUNYUAN_VIDEO" and frames.isdigit():
        _default(keys, "frames", int(frames), "frames")


def _optimizer(keys: KeyReading) -> None:
    asked = keys.value("optimizer")
    key = "optimizer.optimizer" if isinstance(asked, dict) else "optimizer"
    name = str(keys.value(key) or "ADAMW")
    if name in OPTIMIZERS:
        keys.settings["optimizer"] = OPTIMIZERS[name]
        if keys.value(key) is not None:
            keys.knows(key, "optimizer")
    else:
        keys.leave(key, "+- what it keeps is not counted")
    if keys.on("optimizer.fused_back_pass") or keys.on(
        f"optimizer_defaults.{name}.fused_back_pass"
    ):
        keys.set("fused_backward", True, "optimizer.fused_back_pass")


def _stored(keys: KeyReading, part: str) -> str:
    """Return the dtype of a component's weights; older files have one for all components."""
    written = keys.value(f"{part}.weight_dtype")
    shared = keys.value("weight_dtype")
    return str(written if written not in (None, "NONE") else shared or "FLOAT_32")


def _base(keys: KeyReading, part: str) -> None:
    """Read the denoiser's format. Quantized weights are multiplied in the training dtype."""
    name, key = _stored(keys, part), f"{part}.weight_dtype"
    only = "@blocks" if keys.value("quantization.layer_filter_preset") == "blocks" else ""
    if not only and keys.value("quantization.layer_filter"):
        keys.leave(
            "quantization.layer_filter", "+ layers that are left as they are are not counted"
        )
    if name in DTYPES:
        keys.set("dtype", DTYPES[name], key)
    elif name in FORMATS:
        keys.set("quantization", FORMATS[name] + only, key)
    elif name in EIGHT:
        keys.set("quantization", "fp8" + only, key)
        keys.leave(key, "+- activations in 8 bits are not counted")
    else:
        keys.leave(key, f"- {name:.20} is not counted")


def _offloaded(keys: KeyReading, part: str) -> None:
    """Read checkpointing and offloading to host memory. UNets' blocks are not offloaded."""
    kind = keys.value("gradient_checkpointing")
    again = keys.value(f"{part}.gradient_checkpointing", kind not in (False, "OFF"))
    inputs = keys.value(f"{part}.activation_offloading")
    if kind == AWAY:
        inputs = keys.value("enable_activation_offloading", True)
    keys.used |= {
        "gradient_checkpointing",
        "enable_activation_offloading",
        "layer_offload_fraction",
    }
    if again:
        keys.settings["checkpointing"] = "offload" if inputs and part != "unet" else "full"
    if kind is not None:
        keys.knows("gradient_checkpointing", "checkpointing")
    key = "layer_offload_fraction" if kind == AWAY else f"{part}.offload_fraction"
    if keys.value(key) and part != "unet":
        _waiting(keys, key)


def _waiting(keys: KeyReading, key: str) -> None:
    if keys.settings["method"] == "full":
        keys.leave(key, "- blocks that are trained and wait in host memory are not counted")
    else:
        keys.set("streaming", "blocks", key)
        keys.take(key, "offload_fraction")


def _encoders(keys: KeyReading) -> None:
    """Read the formats of text encoders, and whether CLIP's train."""
    small = keys.text("model_type").startswith(
        ("STABLE_DIFFUSION_1", "STABLE_DIFFUSION_2", "STABLE_DIFFUSION_XL")
    )
    trains = any(keys.value(f"{part}.train", True) for part in ENCODERS[:2])
    if small and trains:
        keys.settings["train_text_encoder"] = True
    forms = {part: _stored(keys, part) for part in ENCODERS if keys.value(part)}
    packed = [f"{part}={FORMATS[form]}" for part, form in forms.items() if form in FORMATS]
    if packed:
        base = keys.settings.get("quantization")
        keys.settings["quantization"] = "+".join([*([str(base)] if base else []), *packed])


KIND = Kind(
    name=TITLE,
    title=sentence("title.onetrainer"),
    syntaxes=("json",),
    source="https://github.com/Nerogar/OneTrainer @ 23df3832",
    tells=tells,
    read=read,
)
