"""A Python script that trains: what its calls say, read from the syntax tree and never run.

    model, tokenizer = FastLanguageModel.from_pretrained("org/name", load_in_4bit=True)
    model = FastLanguageModel.get_peft_model(model, r=16, ...)
    SFTTrainer(model=model, args=SFTConfig(per_device_train_batch_size=2, ...))

A name that is given one literal stands for it; what is computed is a variable, and told.

Sources: unsloth @ 015bdef0 models/loader.py (max_seq_length 2048, load_in_4bit, checkpointing
"unsloth"); transformers 5.2 and trl @ f2cd5771 as in arguments.py and trl.py; ml-cross-entropy
@ 4416b37d transformers/patch.py (cce_patch, whose `impl` is "cce").
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.transformers.dialect import (
    BESIDE,
    LOADS,
    called,
    calls_in,
    class_of,
    value_of,
)
from weighbridge.files.runfiles.document import Document, Path, Place
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.training import literals, trl
from weighbridge.workload.consistency import OWN_DTYPE

# trainers from rewards and preferences: GRPOTrainer, DPOConfig
LEARNERS = ("DPO", "GRPO", "ORPO", "KTO", "PPO", "RLOO", "CPO", "Reward")
LOSSES = {("dpo", "ipo"): "ipo", ("cpo", "simpo"): "simpo"}  # (class, loss_type) -> method
CONFIGS = (
    *(f"{name}Config" for name in LEARNERS),
    *("SFTConfig", "TrainingArguments", "UnslothTrainingArguments", "Seq2SeqTrainingArguments"),
)
ADAPTERS = ("LoraConfig", "get_peft_model")
TRAINERS = (*(f"{name}Trainer" for name in LEARNERS), "SFTTrainer", "UnslothTrainer")
PACKING = ("BitsAndBytesConfig",)
# Calls that make a model again from what was trained, and packages that only hold one
AGAIN = ("PeftModel", "AutoPeftModelForCausalLM")
FAST = "Fast"  # FastLanguageModel, FastModel, FastVisionModel of unsloth
NAMES: Mapping[str, str] = {
    "model_name": "model_name_or_path",
    "pretrained_model_name_or_path": "model_name_or_path",
    "r": "lora_r",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
}
_TAKEN = """
model_name_or_path load_in_4bit load_in_8bit max_seq_length dtype torch_dtype
attn_implementation lora_r lora_target_modules lora_alpha lora_dropout use_rslora use_dora
lora_modules_to_save full_finetuning use_gradient_checkpointing use_bnb_nested_quant packing
max_length fast_inference gpu_memory_utilization load_in_fp8 unsloth_tiled_mlp offload_embedding
qat_scheme
"""
TAKEN = tuple(_TAKEN.split())
OF_CONFIGS = ("packing", "max_length", "max_seq_length")  # arguments that configs have, too
STANDBY = re.compile(r"UNSLOTH_VLLM_STANDBY\W+1\b")
CHECKPOINTS = {"unsloth": "offload", "True": "full", "true": "full", "False": "none"}
COMPUTED = "$computed"
DTYPES = frozenset(("dtype", "torch_dtype"))
LENGTHS = frozenset(("max_length", "max_seq_length", "model_max_length"))
CUT, KERNEL = "cce_patch", "cce"  # Cut Cross Entropy in the place of a model's own loss
OWN = ("dtype", OWN_DTYPE, "from_pretrained of transformers 5 takes the checkpoint's own")
INNER = "model_init_kwargs"
PACKED = ("load_in_4bit", "load_in_8bit")
INT8 = "prepare_model_for_int8_training"
PREPARING = ("prepare_model_for_kbit_training", INT8)
AS_LOADED = ("kbit_upcast", "none", f"no {PREPARING[0]} is called")
# PEFT 0.10.0 of March 2024 took it away (its issue 1583); transformers of that month is 4.38
OF_2024 = ("engine_version", "4.38", f"PEFT has no {INT8} since 0.10, of March 2024")
OF_PEFT = ("lora_r", 8, "r of PEFT's LoraConfig")  # peft 0.18 tuners/lora/config.py
UNREAD = "it is read from the script's calls; what they compute is not followed"


def tells(document: Document) -> bool:
    """Return whether a script trains: it loads a model, and creates arguments or adapters."""
    calls = calls_in(document.data)
    names = {called(call) for call in calls}
    trains = any(name in names for name in (*CONFIGS, "get_peft_model", "SFTTrainer"))
    loads = LOADS in names or any(_named(call) is not None for call in calls)
    return loads and (trains or any(map(_training_method_of, names)))


class GatheredCalls(NamedTuple):
    """A script's calls in order, the arguments of the first of each group with their places, and
    notes on defaults."""

    calls: list[ast.Call]
    data: dict[str, Any]
    places: dict[Path, Place]
    notes: tuple[str, ...]


def _gathered(document: Document) -> GatheredCalls:
    """Return a script's calls with their arguments."""
    tree, notes = literals.defaulted(document.text)
    calls = sorted(calls_in(tree), key=lambda call: call.lineno)
    data: dict[str, Any] = {}
    places: dict[Path, Place] = {}
    of_packages = literals.imported(tree)
    for call in filter(None, (_load(calls), *_loading_arguments(calls, tree), *_first(calls))):
        whole = called(call) in CONFIGS
        _take(_with_unpacked_mapping(call, tree), data, places, document.text, whole=whole)
        data |= {
            name: COMPUTED
            for name in _unknown_attribute_arguments(call, of_packages)
            if name in data
        }
    for call in calls:
        if any(word.arg == "truncation" for word in call.keywords):
            _take_length(call, data, places, document.text)
    return GatheredCalls(calls, data, places, notes)


def _unknown_attribute_arguments(call: ast.Call, imported: frozenset[str]) -> Iterator[str]:
    """Yield the arguments whose value is an attribute that the script does not set (`args.bs`)."""
    words = [(word.arg, word.value) for word in call.keywords if word.arg]
    if called(call) == LOADS and call.args:
        words.append(("model_name_or_path", call.args[0]))
    for name, node in words:
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        package = isinstance(root, ast.Name) and root.id in imported
        if isinstance(node, ast.Attribute) and not package:
            yield NAMES.get(name, name)


def placed(document: Document) -> Document:
    """Return a script with the places of its calls' arguments. The empty path is the last argument
    of its config, after which new ones go."""
    calls, data, places, _ = _gathered(document)
    config = next((c for c in calls if called(c) in CONFIGS and c.keywords), None)
    ends = [_end(word.value) for word in config.keywords] if config is not None else []
    if config is not None and max(ends) <= _end(config):  # a name's literal is elsewhere
        last = config.keywords[ends.index(max(ends))].value
        if last.lineno >= config.lineno:
            places[()] = _spanned(last, document.text)
    return replace(document, data=data, places=places)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield a script's run; the first call of each kind counts."""
    calls, data, places, notes = _gathered(document)
    load = _load(calls)
    fast = load is not None and class_of(load).startswith(FAST)
    method = next(filter(None, (_training_method_of(called(call)) for call in calls)), "")
    loss = data.get("loss_type")
    method = LOSSES.get((method, str(loss[0] if isinstance(loss, list) and loss else loss)), method)
    names = {called(call) for call in calls}
    adapted = not names.isdisjoint(ADAPTERS)
    packs = not fast and not data.keys().isdisjoint(PACKED)
    prepares = _checkpointing_call(calls) if packs else None
    if prepares is not None:
        data["gradient_checkpointing"] = True
        places[("gradient_checkpointing",)] = Place(prepares.lineno)
    loads: list[tuple[str, Value, str]] = []
    loads += [OWN] if load is not None and not fast and DTYPES.isdisjoint(data) else []
    loads += [OF_2024] if INT8 in names else []
    loads += [AS_LOADED] if packs and names.isdisjoint((*PREPARING, *TRAINERS)) else []
    loads += [OF_PEFT] if "LoraConfig" in names and "lora_r" not in data else []
    _halves(data)
    extra = _fast(data, adapted=adapted) if fast else {}
    if fast and method and data.pop("fast_inference", False):
        data["use_vllm"] = True
        extra |= {"standby": True} if STANDBY.search(document.text) else {}
    if adapted and not data.pop("full_finetuning", False):
        data["use_peft"] = True
    framework = "unsloth" if fast else "trainer" if names.isdisjoint(TRAINERS) else "trl"
    arguments = replace(document, data=data, places=places)
    run = trl.of_arguments(arguments, framework, UNREAD, method)
    packed = "quantization" if fast else ""  # unsloth has its own quantization, which is estimated
    settings = {name: value for name, value in run.settings.items() if name != packed} | extra
    settings |= {name: value for name, value, _ in loads}
    passed = {*extra, *(name for name, _, _ in loads)}
    run = replace(
        run,
        settings=settings,
        defaults=(*(d for d in run.defaults if d[0] not in passed), *loads),
        understood=tuple(one for one in run.understood if one.line),
        notes=(*run.notes, *notes),
    )
    run = replace(run, unread=(*run.unread, *_other_adapters(document.data, calls)))
    cut = next((call for call in calls if called(call) == CUT), None)
    yield (
        run
        if cut is None or fast
        else _with_cut_cross_entropy(run, cut, alone=framework == "trainer")
    )


def _other_adapters(tree: ast.AST, calls: list[ast.Call]) -> Iterator[Unread]:
    """Yield notes on PEFT configs other than LoRA's, which are not estimated."""
    nodes = (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "peft")
    configs = {alias.name for node in nodes for alias in node.names if alias.name not in ADAPTERS}
    for call in calls:
        if called(call) in configs and called(call).endswith("Config"):
            why = "adapters of this kind are not counted"
            yield Unread(key=called(call), line=call.lineno, why=why, lowers=True, raises=True)


def _training_method_of(name: str) -> str:
    """Return the method of a trainer class for rewards or preferences, or of its config class; ""
    for others."""
    plain = name.removesuffix("Trainer").removesuffix("Config")
    return plain.lower() if plain != name and plain in LEARNERS else ""


def _with_cut_cross_entropy(run: PlannedRun, call: ast.Call, *, alone: bool) -> PlannedRun:
    """Return a run with Cut Cross Entropy as its loss, or with a note: other kernels of that
    package are not estimated, and unless `alone`, TRL's trainer has its own loss."""
    named_arguments = dict(zip(("model", "impl"), call.args, strict=False))
    named_arguments |= {word.arg: word.value for word in call.keywords if word.arg}
    kernel = value_of(named_arguments["impl"]) if "impl" in named_arguments else KERNEL
    if kernel != KERNEL or not alone:
        why = "its impl is not counted" if alone else "TRL's own loss is counted in its place"
        cut = Unread(key=CUT, line=call.lineno, why=why, lowers=True)
        return replace(run, unread=(*run.unread, cut))
    taken = Understood(key=CUT, value=KERNEL, setting="loss", line=call.lineno)
    return replace(
        run,
        settings={**run.settings, "loss": KERNEL},
        understood=tuple(sorted((*run.understood, taken), key=lambda one: one.line)),
    )


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0


def _load(calls: list[ast.Call]) -> ast.Call | None:
    return next((call for call in calls if _is_load(call)), None)


def _named(call: ast.Call) -> ast.Constant | None:
    """Return the model's name in a call of TRL's trainer, which loads the model itself; None
    without one."""
    if called(call) not in TRAINERS:
        return None
    words = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "model")]
    node = words[0] if words else None
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node if text else None  # type: ignore[return-value]


def _loading_arguments(calls: list[ast.Call], tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the arguments with which TRL's trainer loads the model (model_init_kwargs, a dict or
    its name), as a call of from_pretrained."""
    for call in calls:
        for word in call.keywords:
            if word.arg == INNER and called(call) in CONFIGS:
                yield from _as_call(word.value, tree)


def _as_call(node: ast.expr, tree: ast.AST) -> Iterator[ast.Call]:
    keywords = [ast.keyword(arg=name, value=value) for name, value in _pairs(node, tree)]
    if keywords:
        func = ast.Name(id=LOADS, ctx=ast.Load())
        yield ast.copy_location(ast.Call(func=func, args=[], keywords=keywords), node)


def _with_unpacked_mapping(call: ast.Call, tree: ast.AST) -> ast.Call:
    """Return a call with the arguments of an unpacked mapping (`**config`) as its own."""
    if all(word.arg for word in call.keywords):
        return call
    keywords: list[ast.keyword] = []
    for word in call.keywords:
        if word.arg:
            keywords.append(word)
        else:
            pairs = _pairs(word.value, tree)
            keywords += [ast.keyword(arg=name, value=value) for name, value in pairs]
    return ast.copy_location(ast.Call(func=call.func, args=call.args, keywords=keywords), call)


def _assigned(name: ast.Name, tree: ast.AST) -> ast.expr:
    """Return the value assigned to a name, if there is only one; else the name itself."""
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(each, ast.Name) and each.id == name.id for each in node.targets)
    ]
    return values[0] if len(values) == 1 else name


def _left_of(over: ast.comprehension, tree: ast.AST) -> list[tuple[str, ast.expr]]:
    """Return the items (name, value) of a mapping that a comprehension's conditions keep."""
    dropped = {str(c.value) for c in ast.walk(over) if isinstance(c, ast.Constant)}
    keeps = all(_excludes_names(condition) for condition in over.ifs)
    source = over.iter.func.value if _is_items(over.iter) else None  # type: ignore[attr-defined]
    pairs = _pairs(source, tree) if source is not None and keeps else []
    return [(name, value) for name, value in pairs if name not in dropped]


def _pairs(node: ast.expr, tree: ast.AST) -> list[tuple[str, ast.expr]]:
    """Return the items (name, value) of a mapping: a literal, its name, or a filtering
    comprehension (`{k: v for k, v in config.items() if k != "x"}`)."""
    if isinstance(node, ast.DictComp):
        return _left_of(node.generators[0], tree)
    if isinstance(node, ast.Name):
        node = _assigned(node, tree)
    if isinstance(node, ast.Dict):
        items = zip(node.keys, node.values, strict=True)
        return [(str(key.value), value) for key, value in items if isinstance(key, ast.Constant)]
    if isinstance(node, ast.Call) and called(node) == "dict":
        return [(word.arg, word.value) for word in node.keywords if word.arg]
    return []


def _is_items(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and called(node) == "items" and not node.args


def _excludes_names(condition: ast.expr) -> bool:
    """Return whether a condition keeps all names but those in it."""
    compares = isinstance(condition, ast.Compare)
    return compares and all(isinstance(op, ast.NotEq | ast.NotIn) for op in condition.ops)  # type: ignore[attr-defined]


def _checkpointing_call(calls: list[ast.Call]) -> ast.Call | None:
    """Return PEFT's call that enables checkpointing for a quantized model, whatever the Trainer
    sets later (peft 0.9 utils/other.py); None without one, or if it disables that."""
    call = next((call for call in calls if called(call) in PREPARING), None)
    words = {word.arg: value_of(word.value) for word in call.keywords} if call else {}
    return None if words.get("use_gradient_checkpointing") is False else call


def _is_load(call: ast.Call) -> bool:
    owner = class_of(call)
    return called(call) == LOADS and not owner.endswith(BESIDE) and owner not in AGAIN


def _first(calls: list[ast.Call]) -> Iterator[ast.Call]:
    """Yield the first call of each group: quantization, adapters, trainer and its arguments."""
    for names in (PACKING, *((name,) for name in ADAPTERS), TRAINERS, CONFIGS):
        call = next((c for c in calls if called(c) in names and (c.keywords or c.args)), None)
        if call is not None:
            yield call


def _keywords(call: ast.Call) -> list[tuple[str, ast.expr]]:
    """Return (name, value) of a call's keyword arguments, with the model that it loads."""
    keywords = [(word.arg, word.value) for word in call.keywords if word.arg]
    models = [call.args[0]] if called(call) == LOADS and call.args else []
    models += [model] if (model := _named(call)) is not None else []
    return [*(("model_name_or_path", model) for model in reversed(models)), *keywords]


def _take(
    call: ast.Call, data: dict[str, Any], places: dict[Path, Place], text: str, *, whole: bool
) -> None:
    """Read a call's keyword arguments into `data` and `places`: all if `whole`, else only known
    ones."""
    for word, node in _keywords(call):
        name = NAMES.get(word, word)
        if not whole and name not in TAKEN:
            continue
        value = value_of(node)
        literal = isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.Attribute)
        data[name] = value if literal or value is not None else COMPUTED
        if isinstance(value, tuple):
            data[name] = list(value)
        places[(name,)] = _place(node, text)


def _take_length(
    call: ast.Call, data: dict[str, Any], places: dict[Path, Place], text: str
) -> None:
    """Read the length to which a tokenizer truncates rows, if no config has one."""
    node = next((word.value for word in call.keywords if word.arg == "max_length"), None)
    if LENGTHS.isdisjoint(data) and isinstance(node, ast.Constant) and isinstance(node.value, int):
        data["max_length"] = node.value
        places[("max_length",)] = _place(node, text)


def _place(node: Any, text: str) -> Place:
    """Return a node's place: a literal's characters, for other nodes only the line."""
    stands = isinstance(node, ast.Constant) and node.kind != literals.COUNTED
    return _spanned(node, text) if stands else Place(node.lineno)


def _spanned(node: Any, text: str) -> Place:
    """Return the characters of a node, whose columns count bytes."""
    lines = text.split("\n")

    def offset(line: int, column: int) -> int:
        before = sum(len(each) + 1 for each in lines[: line - 1])
        return before + len(lines[line - 1].encode()[:column].decode(errors="ignore"))

    return Place(
        node.end_lineno or node.lineno,
        offset(node.lineno, node.col_offset),
        offset(node.end_lineno or 1, node.end_col_offset or 0),
    )


def _halves(data: dict[str, Any]) -> None:
    """Set bfloat16 if the script asks the device for it: bf16=is_bfloat16_supported()."""
    if COMPUTED in (data.get("bf16"), data.get("fp16")):
        data["bf16"] = True
        data.pop("fp16", None)
    if data.get("dtype") == COMPUTED:
        del data["dtype"]


def _fast(data: dict[str, Any], *, adapted: bool) -> dict[str, Any]:
    """Return the arguments, with unsloth's own defaults for missing ones."""
    asked = str(data.pop("use_gradient_checkpointing", "unsloth"))
    if adapted:
        data.setdefault("load_in_4bit", True)
    if "max_length" not in data:
        data.setdefault("max_seq_length", 2048)
    if data.get("fp16") is not True:
        data["bf16"] = True
    return {"checkpointing": CHECKPOINTS.get(asked, "offload")}


KIND = Kind(
    name="training-script",
    title=sentence("title.script"),
    syntaxes=("python",),
    source="https://github.com/unslothai/unsloth @ 015bdef0",
    tells=tells,
    read=read,
    written=trl.KIND.written,
    placed=placed,
)
