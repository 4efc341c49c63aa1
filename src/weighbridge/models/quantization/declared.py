"""The format that a config declares (`quantization_config` and its relatives) as a Scheme.

    quant_method   what decides                              source
    bitsandbytes   load_in_8bit, bnb_4bit_quant_type, ...    BitsAndBytesConfig (transformers)
    gptq, awq      bits, group_size                          GPTQConfig, AwqConfig
    fp8            weight_block_size                         FineGrainedFP8Config
    mxfp4          nothing                                   Mxfp4Config
    compressed-tensors   config_groups: bits, strategy, type compressed-tensors quant_args.py
    modelopt       quant_algo                                hf_quant_config.json
    hqq, quanto, torchao, eetq, fbgemm_fp8
    (none)         group_size and bits: MLX                  mlx_lm utils.py
                   with desc_act, zero_point: GPTQ, AWQ      GPTQModel's QuantizeConfig

Modules that the config itself names as not converted are left alone on top of what the format
leaves alone by itself.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, DType
from weighbridge.base.errors import BadFileError, UnsupportedError, UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.quantization.floats import block_name
from weighbridge.models.quantization.module_names import named_by, of_one_expert, patterns_of
from weighbridge.models.quantization.scheme import LoaderFacts, Pack, PackedPiece, Scheme, module
from weighbridge.models.quantization.schemes import scheme

Raw = Mapping[str, Any]
SIGNS = {"desc_act": "gptq", "zero_point": "awq", "group_size": "mlx"}  # of no quant_method
SKIPS = ("modules_to_not_convert", "llm_int8_skip_modules", "ignore", "exclude_modules")


def method_of(raw: Raw) -> str:
    """Return the quantization method in lower case. A config in memory has transformers' enum
    there, one in a file its value."""
    method = raw.get("quant_method") or next((SIGNS[key] for key in SIGNS if key in raw), "")
    return str(getattr(method, "value", method)).lower()


def told_by_keys(raw: Raw) -> str:
    """Return a method that only other keys imply, which transformers rejects; "" if quant_method or
    MLX states it."""
    method = method_of(raw)
    return "" if raw.get("quant_method") or method == "mlx" else method


def declared(raw: Raw) -> Scheme:
    """Return the format in a config. Raises UnsupportedError for an unknown method."""
    method = method_of(raw)
    name = METHODS.get(method)
    if name is None:
        known = ", ".join(METHODS)
        raise UnsupportedError(sentence("quant_method", method=method, known=known))
    form = _by_name(raw) or _called(name(raw))
    if raw.get("expert_dtype") == "fp4":
        form = _with_experts_in(scheme("mxfp4"), form)
    return sparing(form, raw)


def _called(name: str) -> Scheme:
    try:
        return scheme(name)
    except UsageError as error:
        raise BadFileError(sentence("quant_wrong", error=error.line)) from None


def _nested_object(raw: Raw, key: str) -> Raw:
    """Return the nested object at `key`; {} if it is missing."""
    value = raw.get(key) or {}
    if not isinstance(value, Mapping):
        raise BadFileError(sentence("quant_object", key=key, value=shown(value)))
    return value


def fallback_dtype(raw: Raw) -> DType:
    """Return the dtype of weights that are not quantized, if the config states none.

    transformers 5.23 quantizers/quantizer_{gptq,awq,mxfp4}.py, `update_dtype`; bfloat16 for the
    others is assumed: their checkpoints hold it.
    """
    return FLOAT16 if raw.get("quant_method") in ("gptq", "awq") else BFLOAT16


def _wrong(key: str, value: object, what: str) -> BadFileError:
    return BadFileError(sentence("quant_value", key=key, value=shown(value), what=what))


def _number(raw: Raw, *keys: str, default: int) -> int:
    """Return the first of `keys` that is set, a number other than 0; null counts as missing."""
    key = next((key for key in keys if raw.get(key) is not None), None)
    if key is None:
        return default
    value = raw[key]
    if type(value) is not int or value == 0:
        raise _wrong(key, value, sentence("no_checkpoint_has"))
    return value


def _fp8_block_name(raw: Raw, key: str) -> str:
    """Return the name of FP8 with one scale per block of [rows, columns], the config's value at
    `key`."""
    size = raw[key]
    both = size.split("x") if isinstance(size, str) else size  # older files: "128x128"
    pair = both if isinstance(both, list | tuple) else ()
    both = [
        int(number) if isinstance(number, str) and number.isdecimal() else number for number in pair
    ]
    if len(both) != 2 or not all(
        type(number) is int and 0 < number < MOST_OF_BLOCK for number in both
    ):
        raise _wrong(key, size, sentence("must.block", most=MOST_OF_BLOCK - 1))
    return block_name(*both)


MOST_OF_BLOCK = 100_000


def _bitsandbytes(raw: Raw) -> str:
    if raw.get("load_in_8bit") and raw.get("load_in_4bit"):  # transformers refuses it likewise
        raise _wrong("load_in_4bit", True, sentence("both_bits"))
    if raw.get("load_in_8bit"):
        return "bnb-int8"
    kind = str(raw.get("bnb_4bit_quant_type") or "fp4")
    return f"{kind}-dq" if raw.get("bnb_4bit_use_double_quant") else kind


class PackedSize(NamedTuple):
    """A size in a method's config: its possible keys, and its most frequent value."""

    keys: tuple[str, ...]
    usual: int

    def read(self, raw: Raw) -> int:
        return _number(raw, *self.keys, default=self.usual)


# Usual: AwqConfig of transformers 5.23 and GPTQModel's QuantizeConfig; mlx.core.quantize; hqq's
# BaseQuantizeConfig; compressed-tensors' presets. vLLM refuses a GPTQ or AWQ file without
# (get_from_keys of layers/quantization/base_config.py).
BITS, GROUP = PackedSize(("bits", "w_bit"), 4), PackedSize(("group_size", "q_group_size"), 128)
SIZES: dict[str, tuple[PackedSize, ...]] = {
    "gptq": (BITS, GROUP),
    "awq": (BITS, GROUP),
    "mlx": (BITS, GROUP._replace(usual=64)),
    "hqq": (PackedSize(("nbits",), 4), PackedSize(("group_size",), 64)),
    "compressed-tensors": (PackedSize(("num_bits",), 4),),
}


def untold(raw: Raw) -> str:
    """Return a sentence on required sizes that a config lacks, with the values in use; "" if it has
    all."""
    method = method_of(raw)
    where = WITHIN[method](raw) if method in WITHIN else raw
    lacking = [
        size for size in SIZES.get(method, ()) if all(where.get(key) is None for key in size.keys)
    ]
    if not lacking:
        return ""
    names = " and ".join(f"no {size.keys[0]}" for size in lacking)
    usual = " and ".join(f"{size.keys[0]} {size.usual}" for size in lacking)
    key = "quant_lacks.many" if lacking[1:] else "quant_lacks"
    return sentence(key, method=method, names=names, usual=usual)


def _grouped(family: str) -> Callable[[Raw], str]:
    def name(raw: Raw) -> str:
        bits, group = (size.read(raw) for size in SIZES[family])
        return f"{family}-{bits}bit-g{group}"

    return name


def _gptq(raw: Raw) -> str:
    """Return GPTQ's format name, with the output layer if `lm_head` is true (GPTQModel's
    QuantizeConfig, vllm 0.33 layers/quantization/gptq_marlin.py)."""
    return _grouped("gptq")(raw) + ("-head" if raw.get("lm_head") is True else "")


def _fp8(raw: Raw) -> str:
    named = raw.get("weight_block_size") is not None
    return _fp8_block_name(raw, "weight_block_size") if named else "fp8-tensor"


def _first_group(raw: Raw) -> Raw:
    groups = _nested_object(raw, "config_groups")
    return _nested_object(groups, next(iter(groups), ""))


def _compressed(raw: Raw) -> str:
    first = _first_group(raw)
    weights = _nested_object(first, "weights")
    (size,) = SIZES["compressed-tensors"]
    bits, kind = weights.get("num_bits", size.usual), weights.get("type", "int")
    strategy, group = weights.get("strategy"), weights.get("group_size")
    if kind == "float" and bits == 4:
        return "mxfp4" if group == 32 else "nvfp4"
    if kind == "float" and group == 32:
        return "mxfp8"
    if kind == "float" and strategy == "block":
        return (
            _fp8_block_name(weights, "block_structure")
            if weights.get("block_structure")
            else "fp8-block"
        )
    if kind == "float":
        return "fp8-dynamic" if strategy == "channel" else "fp8-tensor"
    if first.get("input_activations"):
        return "w8a8-int8"
    return f"w{bits}a16-g{group}" if isinstance(group, int) and group > 0 else f"w{bits}a16"


# modelopt's names (QUANT_ALGOS of vllm 0.33 model_executor/layers/quantization/modelopt.py)
ALGORITHMS = {
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8-dynamic",
    "FP8_PB_WO": "fp8-block",
    "FP8_BLOCK_SCALES": "fp8-block",
    "MXFP8": "mxfp8",
    "MXFP4": "mxfp4",
    "W4A8_MXFP4_FP8": "mxfp4",
}


def _modelopt(raw: Raw) -> str:
    algorithm = str((_nested_object(raw, "quantization") or raw).get("quant_algo")).upper()
    return ALGORITHMS.get(algorithm, "nvfp4" if "FP4" in algorithm else "fp8-static")


def _by_name(raw: Raw) -> Scheme | None:
    """Return the format of a config that has an algorithm per module; None for other configs."""
    modules = _nested_object(_nested_object(raw, "quantization") or raw, "quantized_layers")
    if not modules:
        return None
    from weighbridge.models.quantization.by_name import by_name  # few checkpoints have it

    names = {name: _modelopt(_nested_object(modules, name)) for name in modules}
    return by_name({name: scheme(form) for name, form in names.items()})


def _torchao(raw: Raw) -> str:
    kind = str(raw.get("quant_type") or "")
    if "int4" in kind.lower():
        return "torchao-int4-g128"
    return "torchao-fp8" if "float8" in kind.lower() else "torchao-int8"


def _hqq_sizes(raw: Raw) -> Raw:
    inner = _nested_object(raw, "quant_config") or raw
    return _nested_object(inner, "weight_quant_params") or inner


def _hqq(raw: Raw) -> str:
    weights, (bits, group) = _hqq_sizes(raw), SIZES["hqq"]
    return f"hqq-{weights.get('nbits', bits.usual)}bit-g{weights.get('group_size', group.usual)}"


def _quanto(raw: Raw) -> str:
    return f"quanto-{raw.get('weights') or 'int8'}"


# method -> the object with its sizes, if that is nested
WITHIN: dict[str, Callable[[Raw], Raw]] = {
    "hqq": _hqq_sizes,
    "compressed-tensors": lambda raw: _nested_object(_first_group(raw), "weights"),
}
METHODS: dict[str, Callable[[Raw], str]] = {
    "bitsandbytes": _bitsandbytes,
    "gptq": _gptq,
    "awq": _grouped("awq"),
    "fp8": _fp8,
    "fbgemm_fp8": lambda raw: "fp8-dynamic",
    "mxfp4": lambda raw: "mxfp4",
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "torchao": _torchao,
    "hqq": _hqq,
    "quanto": _quanto,
    "eetq": lambda raw: "eetq",
    "mlx": _grouped("mlx"),
}


def _with_experts_in(theirs: Scheme, others: Scheme) -> Scheme:
    """Return a format with routed experts in `theirs` and all other weights in `others`."""

    def loader(facts: LoaderFacts) -> Pack:
        expert, other = theirs.loader(facts), others.loader(facts)
        return lambda p: (expert if p.kind in ("expert", "experts") else other)(p)

    return replace(others, name=f"{others.name}, experts {theirs.name}", loader=loader)


def sparing(form: Scheme, raw: Raw) -> Scheme:
    """Return the format, without the modules that the config excludes in addition to the format's
    own."""
    patterns = patterns_of(raw, SKIPS)
    if not patterns:
        return form
    skipped = named_by(patterns)

    def loader(facts: LoaderFacts) -> Pack:
        pack = form.loader(facts)
        return lambda p: None if skipped(module(p)) else pack(p)

    return replace(form, loader=loader, by_expert=of_one_expert(patterns))


def called(form: Scheme, raw: Raw, names: Callable[[str], tuple[str, ...]]) -> Scheme:
    """Return the format for modules whose checkpoint `names` differ from the model's: those that
    the config excludes, or gives no format, under such a name stay as they are."""
    plain = method_of(raw) == "fp8"  # vllm fp8.py, Fp8Config.from_config, reads one list alone
    named = (
        ()
        if plain
        else tuple(_nested_object(_nested_object(raw, "quantization") or raw, "quantized_layers"))
    )
    skipped = named_by(patterns_of(raw, SKIPS[:1] if plain else SKIPS))

    def loader(facts: LoaderFacts) -> Pack:
        pack = form.loader(facts)

        def packed(param: Param) -> Iterable[PackedPiece] | None:
            paths = names(module(param))
            unnamed = named and not any(path.startswith(named) for path in paths)
            return None if unnamed or any(map(skipped, paths)) else pack(param)

        return packed

    return replace(form, name=f"{form.name}, predicting", loader=loader)
