"""A line of Python that loads a model with transformers, parsed into settings.

    model = LlamaForCausalLM.from_pretrained("org/name", dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(load_in_4bit=True)); model.generate(max_length=4096)

Nothing is run: the text becomes a syntax tree, from which the call of `from_pretrained`, that of
`generate` and kernel switches are read. A name that is assigned one literal stands for it; other
names are not followed.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.record import Launch, Obstacle, Value
from weighbridge.engines.transformers import ENGINE
from weighbridge.engines.transformers.derived import CACHES, IMPLEMENTATIONS, OFF
from weighbridge.models.quantization.on_load import named

MOST = 1 << 16  # characters
DEFAULTS = ("sdpa", "dynamic")  # values that are estimated by default
LOADS, ASKS = "from_pretrained", "generate"
# Suffixes of classes loaded beside a model, which take no device memory
BESIDE = ("Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor", "Config")
# Calls by which timm and ultralytics make a network, and our name for it
NETS = {"create_model": "timm/{}", "YOLO": "{}", "RTDETR": "{}"}
PICTURES = "randn"  # stands for pictures
DETECTION = "detection"  # of torchvision.models, whose functions are networks
# Keyword arguments that take no memory, or name the model
_PLAIN = """
trust_remote_code token cache_dir local_files_only use_safetensors variant low_cpu_mem_usage
do_sample temperature top_k top_p streamer
"""
PLAIN = frozenset(_PLAIN.split())


def read(text: str) -> Launch:
    """Return the launch of a line of Python. Raises UsageError."""
    calls = calls_in(with_literals(_tree(text)))
    inner = {id(kw.value) for call in calls for kw in call.keywords if kw.arg in HELD}
    loads = [
        c
        for c in calls
        if called(c) == LOADS and id(c) not in inner and not class_of(c).endswith(BESIDE)
    ]
    if not loads and (net := _net(calls)):
        return net
    if len(loads) != 1 or not loads[0].args:
        raise UsageError(sentence("line.many", count=len(loads), loads=LOADS))
    load = loads[0]
    settings = _pictures(calls)
    warnings: list[str] = []
    model = _text(load.args[0], sentence("line.model"))
    words = [w for c in (load, *(c for c in calls if called(c) == ASKS)) for w in c.keywords]
    stops: list[Obstacle] = []
    for word in sorted(words, key=lambda w: w.arg != KEEPS):  # a kind of cache says more
        _take(word, settings, warnings, stops)
    off = {name for c in calls if (name := _switched_off(c))}
    for kernel, names in OFF.items():
        if off == set(names):
            settings["attention"] = kernel
    if class_of(load) == "AutoModel":
        settings["base_model"] = True
    file = settings.pop("gguf_file", None)
    revision = settings.pop("revision", None)
    return Launch(
        engine=ENGINE.name,
        program=f"{class_of(load)}.{LOADS}",
        model=f"{model}/{file}" if file else model,
        revision=None if revision is None else str(revision),
        settings=settings,
        warnings=tuple(warnings),
        stops=tuple(stops),
    )


def made_by(call: ast.Call) -> str:
    """Return the name of the image network that a call of timm, ultralytics or torchvision makes;
    "" for other calls, or without a literal name."""
    if class_of(call) == DETECTION:
        return called(call)
    if called(call) not in NETS or not call.args or not isinstance(call.args[0], ast.Constant):
        return ""
    return NETS[called(call)].format(str(call.args[0].value).removesuffix(".pt"))


def _net(calls: list[ast.Call]) -> Launch | None:
    """Return the launch of a network that another library makes and does not train."""
    made = next((call for call in calls if made_by(call)), None)
    if made is None or "train" in map(called, calls):
        return None
    settings = _pictures(calls)
    for call in calls:
        to = value_of(call.args[-1]) if called(call) == "to" and call.args else None
        if made in calls_in(call) and str(to) in TORCH:
            settings["dtype"] = str(to)
    return Launch(engine=ENGINE.name, program=called(made), model=made_by(made), settings=settings)


def _pictures(calls: list[ast.Call]) -> dict[str, Value]:
    """Return the settings of pictures in a line: their number, sides and dtype."""
    settings: dict[str, Value] = {}
    for call in calls:
        asks = called(call) == "predict"
        words = {word.arg: value_of(word.value) for word in call.keywords if asks}
        number, sides = words.get("batch"), words.get("imgsz")
        if called(call) == PICTURES and len(call.args) == 4:
            number, _, *sides = map(value_of, call.args)
        each = (*sides, None, None) if isinstance(sides, list | tuple) else (sides, sides)
        height, width, *_ = each
        if isinstance(number, int):
            settings["batch_size"] = number
        if isinstance(height, int) and isinstance(width, int):
            settings["image_size"] = f"{width}x{height}"
        if words.get("half") is True:
            settings["dtype"] = "float16"
    return settings


def _tree(text: str) -> ast.AST:
    if len(text) > MOST:
        raise UsageError(sentence("line.long", count=len(text), most=MOST))
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(sentence("line.not_python", error=str(error)[:80])) from None


def with_literals(tree: ast.AST) -> ast.AST:
    """Replace each name by the literal or the config that is assigned to it, and nothing else."""
    known = _literals(tree)

    def literal(node: Any) -> Any:
        named = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        return known.get(node.id, node) if named else node

    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            each = isinstance(value, list)
            setattr(node, name, [literal(x) for x in value] if each else literal(value))
    return tree


def _literals(tree: ast.AST) -> dict[str, ast.expr]:
    """Return name -> literal, for names that are assigned only once."""
    nodes = list(ast.walk(tree))
    stored = (n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    times = Counter(node.id for node in stored)
    return {
        target.id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and _is_literal(node.value)
        for target in node.targets
        if isinstance(target, ast.Name) and times[target.id] == 1
    }


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return called(node).endswith("BytesConfig")
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Dict) and value_of(node) is not None
    )


def calls_in(tree: Any) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def called(call: ast.Call) -> str:
    """Return the last name of a call: torch.backends.cuda.enable_flash_sdp -> enable_flash_sdp."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def class_of(load: ast.Call) -> str:
    owner = load.func.value if isinstance(load.func, ast.Attribute) else None
    return owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")


def _switched_off(call: ast.Call) -> str:
    """Return the kernel that a call of torch.backends.cuda.enable_*_sdp(False) switches off."""
    match = re.fullmatch(r"enable_(\w+)_sdp", called(call))
    off = call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value is False
    return match[1] if match and off else ""


def _text(node: ast.AST, what: str) -> str:
    value = value_of(node)
    if not isinstance(value, str) or not value:
        raise UsageError(sentence("line.unwritten", what=what))
    return value


def value_of(node: ast.AST) -> Any:
    """Return a literal, or the last name of torch.bfloat16; None for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _take(
    word: ast.keyword, settings: dict[str, Value], warnings: list[str], stops: list[Obstacle]
) -> None:
    if word.arg is None or word.arg in PLAIN:  # **inputs
        return
    reader = WORDS.get(word.arg)
    if value_of(word.value) in DEFAULTS:
        return
    if reader is None:
        warnings.append(sentence("no_keyword", word=word.arg))
        return
    values = dict(reader(word.value))
    if not values:
        warnings.append(sentence("value_unread", word=word.arg))
        stops.append(Obstacle("either", warnings[-1]))
    settings |= {name: value for name, value in values.items() if value != ""}


Read = Callable[[ast.AST], Iterator[tuple[str, Value]]]


def _plain(name: str) -> Read:
    def read_plain(node: ast.AST) -> Iterator[tuple[str, Value]]:
        value = value_of(node)
        if isinstance(value, str | int | float):
            yield name, value

    return read_plain


def _word(name: str, **theirs: str) -> Read:
    """Return a reader of a word, mapped to ours. A mapping of devices places modules by hand."""

    def read_word(node: ast.AST) -> Iterator[tuple[str, Value]]:
        value = value_of(node)
        if isinstance(value, str):
            yield name, theirs.get(value, value)

    return read_word


DTYPE = _word("dtype", auto="", half="float16", float="float32")


def _attention(node: ast.AST) -> Iterator[tuple[str, Value]]:
    """Yield the attention kernel; sdpa is the default of classes that have it, and names none."""
    value = value_of(node)
    for ours, theirs in IMPLEMENTATIONS.items():
        if value == theirs:
            yield "attention", ours


def _config(node: ast.AST) -> Iterator[tuple[str, Value]]:
    if not isinstance(node, ast.Call):
        return
    inner = next((a for a in node.args if isinstance(a, ast.Call)), None)
    words = [*node.keywords, *(inner.keywords if inner is not None else ())]
    arguments = {word.arg: value_of(word.value) for word in words if word.arg}
    scheme = named(called(node), arguments, "" if inner is None else called(inner))
    if scheme is not None:
        yield "quantization", scheme


def _bitsandbytes(name: str) -> Read:
    """Return a reader of a switch beside the model's name, without a config (before 5)."""

    def read_packed(node: ast.AST) -> Iterator[tuple[str, Value]]:
        scheme = named("BitsAndBytesConfig", {name: value_of(node)}, "")
        if scheme is not None:
            yield "quantization", scheme

    return read_packed


def _use_cache(node: ast.AST) -> Iterator[tuple[str, Value]]:
    """Yield the dynamic cache, which some classes keep only if it is requested."""
    if value_of(node) is True:
        yield "cache_implementation", "dynamic"


def _backend(node: ast.AST) -> Iterator[tuple[str, Value]]:
    value = value_of(node)
    for ours, (backend, bits) in CACHES.items():
        arguments = value if isinstance(value, Mapping) else {}
        if (arguments.get("backend"), arguments.get("nbits", bits)) == (backend, bits):
            yield "cache_implementation", ours


def _draft(node: ast.AST) -> Iterator[tuple[str, Value]]:
    if isinstance(node, ast.Call) and called(node) == LOADS and node.args:
        yield "draft_model", _text(node.args[0], sentence("line.draft"))


KEEPS = "use_cache"
HELD = ("assistant_model",)  # models loaded within another call
WORDS: Mapping[str, Read] = {
    "dtype": DTYPE,
    "torch_dtype": DTYPE,
    "load_in_4bit": _bitsandbytes("load_in_4bit"),
    "load_in_8bit": _bitsandbytes("load_in_8bit"),
    "quantization_config": _config,
    "device_map": _word("device_map"),
    "attn_implementation": _attention,
    "revision": _plain("revision"),
    "gguf_file": _plain("gguf_file"),
    "max_length": _plain("context"),
    "max_new_tokens": _plain("max_new_tokens"),
    "num_beams": _plain("num_beams"),
    KEEPS: _use_cache,
    "cache_implementation": _word("cache_implementation", quantized="quanto"),
    "cache_config": _backend,
    "logits_to_keep": _plain("logits_to_keep"),
    "assistant_model": _draft,
}
