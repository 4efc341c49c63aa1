"""What does a PEFT adapter add, and to which model? Its `adapter_config.json`, typed.

Source: peft 0.21 tuners/lora/config.py (class LoraConfig), config.py, utils/peft_types.py. Keys
that later versions add, or other methods need, are in `raw`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import BadFileError
from weighbridge.formats.strict_json import short, strict_object

# The key of the rank and its default; AdaLoRA starts with init_r (AdaLoraConfig), not with r.
RANKS: dict[str, tuple[str, int]] = {"LORA": ("r", 8), "ADALORA": ("init_r", 12)}
BIASES = ("none", "all", "lora_only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """`target_modules` is a list of names, or one pattern ("all-linear", a regular expression).

    `r` is None for methods that have no rank, or whose file does not give one.
    """

    peft_type: str
    task_type: str
    base_model: str
    base_revision: str
    r: int | None
    alpha: int | float | None
    target_modules: tuple[str, ...] | str
    target_parameters: tuple[str, ...]
    exclude_modules: tuple[str, ...] | str
    modules_to_save: tuple[str, ...]
    layers_to_transform: tuple[int, ...]
    layers_pattern: tuple[str, ...]
    rank_pattern: Mapping[str, int]
    bias: str
    use_dora: bool
    lora_bias: bool
    fan_in_fan_out: bool
    raw: Mapping[str, Any]


def parse_adapter(data: bytes) -> Adapter:
    raw = strict_object(data, constants=True)
    bias = _word(raw, "bias", "none")
    if bias not in BIASES:
        raise _wrong(raw, "bias", f"one of {', '.join(BIASES)}")
    peft_type = _word(raw, "peft_type").upper()
    if not peft_type:
        raise BadFileError("peft_type: is missing; is this the adapter_config.json of PEFT?")
    return Adapter(
        peft_type=peft_type,
        task_type=_word(raw, "task_type"),
        base_model=_word(raw, "base_model_name_or_path"),
        base_revision=_word(raw, "revision"),
        r=_first_rank(raw, peft_type),
        alpha=_number(raw, "lora_alpha"),
        target_modules=_words_or_pattern(raw, "target_modules"),
        target_parameters=_words(raw, "target_parameters"),
        exclude_modules=_words_or_pattern(raw, "exclude_modules"),
        modules_to_save=_words(raw, "modules_to_save"),
        layers_to_transform=_layers(raw),
        layers_pattern=_words(raw, "layers_pattern"),
        rank_pattern=_ranks(raw),
        bias=bias,
        use_dora=_flag(raw, "use_dora"),
        lora_bias=_flag(raw, "lora_bias"),
        fan_in_fan_out=_flag(raw, "fan_in_fan_out"),
        raw=raw,
    )


def _wrong(raw: Mapping[str, Any], key: str, wanted: str) -> BadFileError:
    return BadFileError(f"{key}: {wanted} was expected, not {short(raw.get(key))}")


def _word(raw: Mapping[str, Any], key: str, default: str = "") -> str:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(raw, key, "text")
    return default if value is None else value


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw.get(key, False)
    if value is not None and not isinstance(value, bool):
        raise _wrong(raw, key, "true or false")
    return bool(value)


def _number(raw: Mapping[str, Any], key: str) -> int | float | None:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise _wrong(raw, key, "a number")
    return value


def _first_rank(raw: Mapping[str, Any], peft_type: str) -> int | None:
    key, default = RANKS.get(peft_type, ("r", None))
    value = raw.get(key)
    if value is None or (value == 0 and peft_type not in RANKS):  # OFT: 0 is "see block size"
        return default
    return _rank(raw, key, value)


def _rank(raw: Mapping[str, Any], key: str, value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 32:
        raise _wrong(raw, key, "a rank above 0")
    return value


def _words(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of names; one name counts as a list of one."""
    value = raw.get(key)
    words = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _wrong(raw, key, "a list of names")
    return tuple(words)


def _words_or_pattern(raw: Mapping[str, Any], key: str) -> tuple[str, ...] | str:
    value = raw.get(key)
    return value if isinstance(value, str) else _words(raw, key)


def _layers(raw: Mapping[str, Any]) -> tuple[int, ...]:
    value = raw.get("layers_to_transform")
    layers = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(layer) is int and layer >= 0 for layer in layers):
        raise _wrong(raw, "layers_to_transform", "a list of layers")
    return tuple(layers)


def _ranks(raw: Mapping[str, Any]) -> dict[str, int]:
    value = raw.get("rank_pattern")
    if value is not None and not isinstance(value, dict):
        raise _wrong(raw, "rank_pattern", "a map from names to ranks")
    return {key: _rank(raw, "rank_pattern", rank) for key, rank in (value or {}).items()}
