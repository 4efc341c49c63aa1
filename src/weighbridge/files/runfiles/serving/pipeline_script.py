"""A Python script that makes pictures or video with diffusers: what its calls say, read from the
syntax tree and never run.

    pipe = FluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", torch_dtype=torch.bfloat16)
    pipe.enable_model_cpu_offload()
    image = pipe("a cat", height=768, width=768, num_inference_steps=28).images[0]

A name that is given one literal stands for it. What decides and is computed is named, and no
verdict is sure then. Of several calls of a pipeline the largest counts.

Source: diffusers 0.42 pipelines/pipeline_utils.py (DiffusionPipeline), quantizers/
{quantization_config,pipe_quant_config}.py; transformers 5.2 utils/quantization_config.py.
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.engines.transformers.dialect import called, class_of, value_of
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.training import literals
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures.formats import is_gguf
from weighbridge.pictures.request import USUAL_DTYPE

LOADS = ("from_pretrained", "from_single_file")
PIPELINE = re.compile(r"\w*Pipeline|AutoPipelineFor\w+")
TRAINS = ("backward",)
DTYPES = ("torch_dtype", "dtype")
# methods of a pipeline or component -> (setting, value)
METHODS: Mapping[str, tuple[str, Value]] = {
    "enable_model_cpu_offload": ("offload", "model"),
    "enable_sequential_cpu_offload": ("offload", "sequential"),
    "enable_vae_tiling": ("vae_tiling", True),
    "enable_tiling": ("vae_tiling", True),
    "enable_vae_slicing": ("vae_slicing", True),
    "enable_slicing": ("vae_slicing", True),
    "enable_layerwise_casting": ("layerwise_casting", True),
    "fuse_qkv_projections": ("fuse_qkv", True),
    "fuse_lora": ("fuse_lora", True),
    "load_ip_adapter": ("ip_adapter", True),
}
GROUPS = {"block_level": "group-block", "leaf_level": "group-leaf"}
# What else decides memory, and if the run takes less or more with it
NOT_COUNTED: Mapping[str, str] = {
    "enable_attention_slicing": "lowers",
    "enable_xformers_memory_efficient_attention": "lowers",
    "enable_forward_chunking": "lowers",
    "enable_cache": "raises",
    "enable_teacache": "raises",
    "apply_first_block_cache": "raises",
}
# Arguments of a call of the pipeline
SIDES = ("width", "height")
TIMES = ("num_images_per_prompt", "num_videos_per_prompt")
BEGINS = ("text_encoder", "transformer", "unet", "vae", "image_encoder", "tokenizer")
OF_IMAGES = "image_encoder_dtype"
TORCHAO = {"int8wo": "torchao-int8", "float8wo": "torchao-fp8", "int4wo": "torchao-int4"}
COMPUTED = "its value is computed by the script"


class ScriptFacts:
    """What a script's calls state, collected."""

    def __init__(self, document: Document) -> None:
        tree, self.notes = literals.defaulted(document.text)
        self.nodes = list(ast.walk(tree))
        self.calls = sorted(
            (node for node in self.nodes if isinstance(node, ast.Call)), key=lambda c: c.lineno
        )
        self.settings: dict[str, Value] = {}
        self.understood: list[Understood] = []
        self.unread: list[Unread] = []
        self.forms: list[str] = []

    def take(self, setting: str, value: Value, key: str, node: ast.AST) -> None:
        self.settings[setting] = value
        line = getattr(node, "lineno", 0)
        self.understood.append(Understood(key=key, value=value, setting=setting, line=line))

    def leave(self, key: str, why: str, node: ast.AST, *ways: str) -> None:
        line = getattr(node, "lineno", 0)
        lowers, raises = "lowers" in ways, "raises" in ways
        self.unread.append(Unread(key=key, line=line, why=why, lowers=lowers, raises=raises))

    def meant(self, node: ast.expr) -> ast.expr:
        """Return the value assigned to a name, if there is only one; else the node itself."""
        if not isinstance(node, ast.Name):
            return node
        values = [
            each.value
            for each in self.nodes
            if isinstance(each, ast.Assign) and node.id in map(ast.unparse, each.targets)
        ]
        return values[0] if len(values) == 1 else node

    def words(self, call: ast.Call) -> dict[str, ast.expr]:
        """Return a call's arguments by name, including those of an unpacked mapping."""
        named: dict[str, ast.expr] = {}
        for word in call.keywords:
            value = self.meant(word.value)
            if word.arg:
                named[word.arg] = word.value
            elif isinstance(value, ast.Dict):
                keys = zip(value.keys, value.values, strict=True)
                named |= {str(value_of(k)): v for k, v in keys if k is not None}
            elif "drop" not in self.settings:  # outputs of encoders from another run
                self.leave(f"**{ast.unparse(word.value)[:40]}", COMPUTED, call, "raises", "lowers")
        return named


class MadeSize(NamedTuple):
    """The settings of one call of a pipeline, and that call."""

    settings: Mapping[str, Value]
    call: ast.Call

    @property
    def numbers(self) -> int:
        """Return the number of pixels in the settings."""
        size = str(self.settings.get("size") or "1x1").split("x")
        counts = (self.settings.get(name) or 1 for name in ("frames", "batch_size"))
        return prod((*map(int, size), *counts))


def tells(document: Document) -> bool:
    """Return whether a script loads a diffusers pipeline and does not train."""
    calls = [node for node in ast.walk(document.data) if isinstance(node, ast.Call)]
    return any(map(_is_load, calls)) and not any(called(call) in TRAINS for call in calls)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of the first known pipeline that a script loads, else of the first pipeline."""
    facts = ScriptFacts(document)
    loads = [call for call in facts.calls if _is_load(call)]
    load = next(filter(_is_known, loads), loads[0])
    model = _model(facts, load)
    for name, node in facts.words(load).items():
        if name in DTYPES:
            _dtype(facts, "dtype", name, node)
        elif name == "quantization_config":
            facts.forms += _of_pipeline(facts, node)
        elif name == "controlnet":
            facts.take("controlnet", 1, name, node)
        elif name == "device_map" and value_of(node) not in ("cuda", "auto", None):
            facts.leave(name, sentence("script.device_map"), node, "lowers")
        elif name.startswith(BEGINS):
            _component(facts, name, facts.meant(node))
    _as_published(facts, model)
    _placed(facts)
    _called_with(facts, load, model)
    if facts.forms:
        facts.settings["quantization"] = "+".join(facts.forms)
    yield PlannedRun(
        task="image",
        model=model,
        settings=facts.settings,
        understood=tuple(sorted(facts.understood, key=lambda one: one.line)),
        unread=tuple(facts.unread),
        notes=facts.notes,
    )


def _is_load(call: ast.Call) -> bool:
    return called(call) in LOADS and PIPELINE.fullmatch(class_of(call)) is not None


def _is_known(load: ast.Call) -> bool:
    """Return whether a call loads a pipeline from a known repository."""
    name = value_of(load.args[0]) if load.args else None
    return isinstance(name, str) and pipelines.of_repository(name) is not None


def _model(facts: ScriptFacts, load: ast.Call) -> str:
    """Return the loaded pipeline; for a missing folder, the known one with its name."""
    words = facts.words(load)
    names = ("pretrained_model_name_or_path", "pretrained_model_link_or_path")
    node = load.args[0] if load.args else next((words[n] for n in names if n in words), None)
    name = value_of(node) if node is not None else None
    if not isinstance(name, str):
        facts.leave(ast.unparse(load.func), sentence("script.no_pipeline"), load)
        return ""
    last = pipelines.file_name(name.rstrip("/\\"))
    if not os.path.exists(name) and last != name and pipelines.of_repository(name) is None:
        known = pipelines.find(last)
        if known is not None:
            why = sentence("gguf.beginning", name=known.name)
            facts.leave(name, why, load, "raises", "lowers")
            name = known.name
    facts.understood.append(
        Understood(key=called(load), value=name, setting="model", line=load.lineno)
    )
    return name


def _component(facts: ScriptFacts, name: str, node: ast.expr) -> None:
    """Read the arguments of one component; None drops the component."""
    if isinstance(node, ast.Constant) and node.value is None:
        if not name.startswith("tokenizer"):
            dropped = (*facts.settings.get("drop", ()), name)
            facts.take("drop", dropped, name, node)
        return
    if not isinstance(node, ast.Call) or called(node) not in LOADS:
        return
    words = facts.words(node)
    for key in DTYPES:
        if key in words and name in ("vae", "image_encoder"):
            _dtype(facts, f"{name}_dtype", f"{name}.{key}", words[key])
    if "quantization_config" in words:
        form = _form(facts, words["quantization_config"], node)
        facts.forms += [f"{name}={form}"] if form else []


def _as_published(facts: ScriptFacts, model: str) -> None:
    """Drop the image encoder's dtype. If it and the main dtype are the published pipeline's, the
    main one counts for the autoencoder only."""
    of_images, dtype = facts.settings.pop(OF_IMAGES, None), facts.settings.get("dtype")
    row = pipelines.of_repository(model) or pipelines.find(model)
    if row and of_images and (of_images, dtype) == (row.recipe.get(OF_IMAGES), USUAL_DTYPE):
        facts.settings.setdefault("vae_dtype", facts.settings.pop("dtype"))


def _dtype(facts: ScriptFacts, setting: str, key: str, node: ast.expr) -> None:
    """Read a torch dtype; "auto" is the files' own, and `a if cuda else b` means a."""
    if isinstance(node, ast.IfExp) and "cuda" in ast.unparse(node.test):
        node = node.body
    value = value_of(node)
    names = {"half": "float16", "float": "float32"}
    if isinstance(value, str) and value != "auto":
        facts.take(setting, names.get(value, value), key, node)
    elif value is None:
        facts.leave(key, COMPUTED, node, "raises", "lowers")


def _of_pipeline(facts: ScriptFacts, node: ast.expr) -> Iterator[str]:
    """Yield component=format for each component of a PipelineQuantizationConfig."""
    config = facts.meant(node)
    words = facts.words(config) if isinstance(config, ast.Call) else {}
    if isinstance(config, ast.Call):
        names = ("quant_backend", "quant_kwargs", "components_to_quantize")
        words = {**dict(zip(names, config.args, strict=False)), **words}
    mapping = facts.meant(words["quant_mapping"]) if "quant_mapping" in words else None
    if isinstance(mapping, ast.Dict):
        for key, value in zip(mapping.keys, mapping.values, strict=True):
            form = _form(facts, value, node)
            if key is not None and form:
                yield f"{value_of(key)}={form}"
        return
    quantizer = facts.meant(words["quant_kwargs"]) if "quant_kwargs" in words else None
    pairs = (
        zip(quantizer.keys, quantizer.values, strict=True)
        if isinstance(quantizer, ast.Dict)
        else ()
    )
    arguments = {str(value_of(key)): value_of(value) for key, value in pairs if key is not None}
    backend = str(value_of(words["quant_backend"])) if "quant_backend" in words else ""
    listed = value_of(facts.meant(words["components_to_quantize"])) if len(words) > 2 else None
    form = _named(backend, arguments)
    if not form or listed is None:
        facts.leave("quantization_config", COMPUTED, node, "lowers")
        return
    for name in [listed] if isinstance(listed, str) else listed:
        yield f"{name}={form}"


def _form(facts: ScriptFacts, node: ast.expr, load: ast.AST) -> str:
    """Return the format of a component's config; "" if the script computes it."""
    config = facts.meant(node)
    if not isinstance(config, ast.Call):
        facts.leave("quantization_config", COMPUTED, load, "lowers")
        return ""
    name = called(config)
    values = {key: value_of(value) for key, value in facts.words(config).items()}
    values |= {"first": _first(config)}
    form = _named(name, values)
    if name.startswith("GGUF") and isinstance(load, ast.Call) and load.args:
        path = str(value_of(load.args[0]))
        file, end = pipelines.of_file(path), path.removesuffix(".gguf").rpartition("-")[2]
        form = file.format if file is not None else end if is_gguf(end) else ""
    if not form:
        facts.leave("quantization_config", COMPUTED, load, "lowers")
    return form


def _first(call: ast.Call) -> str:
    """Return a config's first argument: a word, or the name of the class that it calls."""
    node = call.args[0] if call.args else None
    return called(node) if isinstance(node, ast.Call) else str(value_of(node) if node else "")


def _named(kind: str, values: Mapping[str, Any]) -> str:
    """Return the format of a config or a backend, by its name and its values."""
    plain = kind.lower()
    nested = "-dq" if values.get("bnb_4bit_use_double_quant") else ""
    if "bitsandbytes" in plain or plain.startswith("bnb"):
        four = values.get("load_in_4bit") or "4bit" in plain
        return f"{values.get('bnb_4bit_quant_type', 'fp4')}{nested}" if four else "bnb-int8"
    if "quanto" in plain:
        return f"quanto-{values.get('weights_dtype', 'int8')}"
    if "torchao" in plain:
        word = str(values.get("quant_type") or values.get("first") or "").lower()
        word = re.sub(r"_?weight_?only(?:config)?|config$", "wo", word)
        return TORCHAO.get(word, "")
    return ""


def _placed(facts: ScriptFacts) -> None:
    """Read the memory settings in method calls of the pipeline and its components."""
    methods = [call for call in facts.calls if isinstance(call.func, ast.Attribute)]
    for call in methods:
        name = called(call)
        if name in METHODS:
            setting, value = METHODS[name]
            facts.take(setting, value, name, call)
        elif name == "enable_group_offload":
            _grouped(facts, call)
        elif name in NOT_COUNTED:
            facts.leave(name, sentence("script.not_counted"), call, NOT_COUNTED[name])
    loras = [call for call in methods if called(call) == "load_lora_weights"]
    if loras:
        facts.take("lora", len(loras), called(loras[0]), loras[0])
    if "offload" not in facts.settings and not any(map(_moves, facts.calls)):
        facts.notes = (*facts.notes, sentence("script.never_moved"))


def _moves(call: ast.Call) -> bool:
    """Return whether a call moves something to the card, or lets the library do so."""
    mapped = any(word.arg == "device_map" for word in call.keywords)
    return mapped or (isinstance(call.func, ast.Attribute) and called(call) in ("to", "cuda"))


def _grouped(facts: ScriptFacts, call: ast.Call) -> None:
    values = {name: value_of(node) for name, node in facts.words(call).items()}
    level = GROUPS.get(str(values.get("offload_type")), "group-block")
    facts.take("offload", level, called(call), call)
    if values.get("use_stream") is True:
        facts.take("offload_stream", True, "use_stream", call)


def _called_with(facts: ScriptFacts, load: ast.Call, model: str) -> None:
    """Read the settings of the pipeline's largest call."""
    names = _names(facts, load)
    calls = [call for call in facts.calls if ast.unparse(call.func) in names]
    makes = [MadeSize(_of_call(facts, call, model), call) for call in calls]
    largest = max(makes, key=lambda one: one.numbers, default=None)
    if largest is None:
        facts.leave(class_of(load), sentence("script.never_called"), load, "raises", "lowers")
        return
    for setting, value in largest.settings.items():
        facts.take(setting, value, setting, largest.call)


def _names(facts: ScriptFacts, load: ast.Call) -> frozenset[str]:
    """Return the variables that hold the pipeline: `pipe`, `self.pipe`."""
    return frozenset(
        ast.unparse(target)
        for node in facts.nodes
        if isinstance(node, ast.Assign) and any(each is load for each in ast.walk(node.value))
        for target in node.targets
    )


def _of_call(facts: ScriptFacts, call: ast.Call, model: str) -> dict[str, Value]:
    words = facts.words(call)
    settings: dict[str, Value] = {}
    sides = [_number(facts, words, name, call) for name in SIDES]
    pipeline = pipelines.of_repository(model) or pipelines.find(model)
    if any(sides):
        usual = pipeline.recipe["size"][:2] if pipeline is not None else (1024, 1024)
        width, height = (side or default for side, default in zip(sides, usual, strict=True))
        settings["size"] = f"{width}x{height}"
    counts = {"frames": ("num_frames", "video_length"), "prompt_tokens": ("max_sequence_length",)}
    for setting, names in counts.items():
        value = next(filter(None, (_number(facts, words, name, call) for name in names)), None)
        settings |= {setting: value} if value else {}
    batch = prod(_number(facts, words, name, call) or 1 for name in TIMES)
    batch *= _prompts(facts, call, words)
    settings |= {"batch_size": batch} if batch > 1 else {}
    scale = value_of(words["guidance_scale"]) if "guidance_scale" in words else None
    guided = pipeline is not None and pipeline.recipe.get("guidance") != "none"
    if guided and isinstance(scale, int | float) and scale <= 1:
        settings["guidance"] = "off"
    return settings


def _number(facts: ScriptFacts, words: Mapping[str, ast.expr], name: str, call: ast.Call) -> int:
    """Return an integer argument; 0 if it is missing, or, with a note, if it is computed."""
    if name not in words:
        return 0
    value = value_of(words[name])
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if not (isinstance(words[name], ast.Constant) and value is None):
        facts.leave(name, COMPUTED, words[name], "raises", "lowers")
    return 0


def _prompts(facts: ScriptFacts, call: ast.Call, words: Mapping[str, ast.expr]) -> int:
    """Return a call's number of prompts: the length of a list, else 1."""
    node = words.get("prompt", call.args[0] if call.args else None)
    meant = facts.meant(node) if node is not None else None
    return len(meant.elts) or 1 if isinstance(meant, ast.List | ast.Tuple) else 1


KIND = Kind(
    name="pipeline-script",
    title=sentence("title.pipeline_script"),
    syntaxes=("python",),
    source="https://github.com/huggingface/diffusers/tree/v0.36.0/src/diffusers/pipelines",
    tells=tells,
    read=read,
)
