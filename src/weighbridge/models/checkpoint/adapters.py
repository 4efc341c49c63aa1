"""Agreement of an adapter's config and its tensors, both ways, and with its base where we know it.

    r, rank_pattern        rows of each lora_A, columns of each lora_B
    target_modules         modules that have tensors; layers_to_transform: the layers of these
    use_dora, bias         magnitudes and biases beside them
    modules_to_save        tensors that are whole; an embedding may be kept without being named,
                           and has the base's rows
    peft_type              how the tensors are called
    the base               inputs and outputs of the matrix that each pair stands beside

Source: PEFT 0.21 utils/save_and_load.py (get_peft_model_state_dict), tuners/tuners_utils.py
(check_target_module_exists), tuners/lora/layer.py (update_layer, which refuses r below 1).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models import catalogue
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.tensors import CheckpointTensor

Raw = Mapping[str, Any]
Shape = tuple[int, ...]
PAIR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(?:embedding_)?([AB])(?:\.weight)?")
WORD = re.compile(r"(?!all-linear$)[\w.]+")
WHOLE = "base_model.model."  # prefix of modules that are saved whole
LAYER = re.compile(r"\.(\d+)\.")
CALLED = {  # tensors of a kind of adapter: config.json's peft_type, PEFT's prefix
    "LORA": "lora_",
    "ADALORA": "lora_",
    "LOHA": "hada_",
    "LOKR": "lokr_",
    "IA3": "ia3_",
    "OFT": "oft_",
    "BOFT": "boft_",
    "VERA": "vera_",
    "FOURIERFT": "fourierft_",
    "LN_TUNING": "ln_tuning_",
}
EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_out")  # kept when resized


class AdapterPair(NamedTuple):
    """The two matrices of an adapted module: [r, inputs] and [outputs, r]."""

    module: str
    down: Shape
    up: Shape

    @property
    def end(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def layer(self) -> int | None:
        number = LAYER.search(self.module)
        return int(number[1]) if number and len(number[1]) < 10 else None


def base_of(raw: Raw) -> Blueprint | None:
    """Return the base's class, if the adapter's config names a model of the catalogue; else
    None."""
    name = raw.get("base_model_name_or_path")
    entry = catalogue.of_repository(name) if isinstance(name, str) else None
    return None if entry is None else blueprint(Config(entry.config))


def differences(raw: Raw, tensors: Iterable[CheckpointTensor]) -> Iterator[str]:
    """Yield a sentence per config key of an adapter that its tensors contradict."""
    shapes = {t.name: t.shape for t in tensors}
    kind = str(raw.get("peft_type", "LORA")).upper()
    prefix = CALLED.get(kind)
    if prefix is not None and not any(prefix in name for name in shapes):
        yield sentence("adapter.type", kind=kind, prefix=prefix)
    pairs = list(_pairs(shapes))
    if not pairs or kind != "LORA":
        return
    yield from _ranks(raw, pairs)
    yield from _targets(raw, pairs)
    yield from _layers(raw, pairs)
    yield from _beside(raw, shapes)
    yield from _shape_differences(pairs, shapes, base_of(raw))


def _pairs(shapes: Mapping[str, Shape]) -> Iterator[AdapterPair]:
    sides: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        match = PAIR.fullmatch(name)
        if match and shape:
            sides.setdefault(match[1], {})[match[2]] = shape
    for module, side in sides.items():
        yield AdapterPair(module, side.get("A", ()), side.get("B", ()))


def _rank_of(module: str, plain: Raw, usual: Any) -> Any:
    """Return the rank of a module: of the first key in `plain` that ends its name, else `usual`."""
    keys = (key for key in plain if f".{module}".endswith(f".{key}"))
    return next((plain[key] for key in keys), usual)


def _ranks(raw: Raw, pairs: Iterable[AdapterPair]) -> Iterator[str]:
    usual, named = raw.get("r", 8), raw.get("rank_pattern")
    ranks = named if isinstance(named, Mapping) else {}
    plain = {key: rank for key, rank in ranks.items() if re.fullmatch(r"[\w.]+", key)}
    if len(plain) < len(ranks):  # expressions, which are PEFT's to read
        return
    odd = []
    for pair in pairs:
        rank = _rank_of(pair.module, plain, usual)
        if pair.down[:1] != (rank,) or pair.up[1:2] != (rank,):
            odd.append(
                sentence("adapter.rank", module=pair.module, has=_ranked(pair), rank=shown(rank))
            )
    if odd:
        yield sentence("adapter.ranks", count=len(odd), odd=odd[0])


def _ranked(pair: AdapterPair) -> str:
    ranks = dict.fromkeys((*pair.down[:1], *pair.up[1:2]))
    return " and ".join(map(str, ranks)) or "none"


def _names(raw: Raw, key: str) -> list[str]:
    """Return the modules listed under a config key; [] if it is a regular expression."""
    names = raw.get(key)
    return [str(name) for name in names] if isinstance(names, list) else []


def _targets(raw: Raw, pairs: Iterable[AdapterPair]) -> Iterator[str]:
    target = raw.get("target_modules")
    modules = [f".{pair.module}" for pair in pairs]
    excluded = tuple(f".{name}" for name in _names(raw, "exclude_modules"))
    left_out = [each[1:] for each in modules if excluded and each.endswith(excluded)]
    if left_out:
        yield sentence("adapter.excluded", module=left_out[0])
    if isinstance(target, str) and WORD.fullmatch(target) and f".{target}" not in modules:
        yield sentence("adapter.absent", module=target)  # as an expression it is of the whole name
    names = [f".{name}" for name in _names(raw, "target_modules")]
    if not names:
        return
    strange = [each[1:] for each in modules if not each.endswith(tuple(names))]
    absent = [name[1:] for name in names if not any(each.endswith(name) for each in modules)]
    if strange:
        yield sentence("adapter.unnamed", module=strange[0])
    if absent:
        yield sentence("adapter.absent", module=absent[0])


def _layers(raw: Raw, pairs: Iterable[AdapterPair]) -> Iterator[str]:
    layers = raw.get("layers_to_transform")
    named = {layers} if type(layers) is int else set(layers) if isinstance(layers, list) else None
    there = {pair.layer for pair in pairs} - {None}
    if named is not None and there != named:
        odd = min(there ^ named, key=str)
        key = "adapter.layer_lacks" if odd in there else "adapter.layer_names"
        yield sentence(key, layer=shown(odd))


def _beside(raw: Raw, shapes: Mapping[str, Shape]) -> Iterator[str]:
    magnitudes = any("lora_magnitude_vector" in name for name in shapes)
    if bool(raw.get("use_dora")) != magnitudes:
        yield sentence("adapter.dora" if magnitudes else "adapter.no_dora")
    biases = [name for name in shapes if name.endswith(".bias")]
    if raw.get("bias") not in ("none", None) and not biases:
        yield sentence("adapter.no_bias", bias=shown(raw["bias"]))
    yield from _modules_to_save_differences(
        raw, [name for name in shapes if "lora_" not in name and name not in biases]
    )


def _modules_to_save_differences(raw: Raw, whole: Sequence[str]) -> Iterator[str]:
    """Yield sentences on differences of modules_to_save from `whole`, the tensors outside of LoRA
    pairs."""
    names = _names(raw, "modules_to_save")
    absent = [name for name in names if not any(f".{name}." in f".{each}" for each in whole)]
    if absent:
        yield sentence("adapter.not_saved", module=shown(absent[0]))
    named = [f".{name}." for name in (*names, *EMBEDDINGS)]
    strange = [each for each in whole if not any(name in f".{each}" for name in named)]
    if strange:
        yield sentence("adapter.saved_whole", module=strange[0])


def _shape_differences(
    pairs: Sequence[AdapterPair], shapes: Mapping[str, Shape], base: Blueprint | None
) -> Iterator[str]:
    """Yield sentences on LoRA pairs and whole modules whose sides differ from the base's matrices;
    without a base, from those of equally named modules in other layers."""
    sides = dict[str, tuple[str, tuple[int, ...]]]()
    if base is not None:
        sides = {p.name.removesuffix(".weight"): (base.cls, p.shape) for p in base.params}
        absent = [pair.module for pair in pairs if pair.module not in sides]
        if absent:
            yield sentence("adapter.base_lacks", cls=base.cls, module=absent[0], count=len(absent))
        for p in base.params:
            if (ours := shapes.get(WHOLE + p.name, p.shape)) != p.shape:
                yield _other_sides(p.name, ours, base.cls, p.shape)
    for pair in pairs:
        if len(pair.down) == len(pair.up) == 2:
            both = pair.up[0], pair.down[1]
            key = pair.end if base is None else pair.module
            where, matrix = sides.setdefault(key, (pair.module, both))
            if set(both) != set(matrix):  # Conv1D is the other way round
                yield _other_sides(pair.module, both, where, matrix)
                return


def _other_sides(module: str, both: Shape, where: str, matrix: Shape) -> str:
    theirs = " x ".join(f"{size:,}" for size in matrix)
    ours = " x ".join(f"{size:,}" for size in both)
    return sentence("adapter.sides", module=module, ours=ours, where=where, theirs=theirs)
