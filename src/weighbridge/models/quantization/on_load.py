"""Formats that transformers makes while it loads, and the `quantization_config` that asks for each.

    written("nf4", "bfloat16") -> ConfigCall("BitsAndBytesConfig", {"load_in_4bit": True, ...})
    named("HqqConfig", {"nbits": 4, "group_size": 64}) -> "hqq-4bit-g64"

All others are read from checkpoints that are stored so: GPTQ and AWQ need data to calibrate by.
Source: transformers 5.23 utils/quantization_config.py; quantizers/ (since: the first release with
each).
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.base.records import field, frozen_record

Version = tuple[int, int]


@frozen_record
class ConfigCall:
    """A quantization config as a Python call. `inner`: torchao's config within transformers';
    `dtypes`: arguments that are torch dtypes."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    inner: "ConfigCall | None" = None
    since: Version = (4, 30)


def written(form: str, computes: str) -> ConfigCall | None:
    """Return the config call that makes a format; None if transformers does not make it."""
    for pattern, make in MAKES:
        match = re.fullmatch(pattern, form)
        if match:
            return make(match, computes)
    return None


def dequantizing(method: str) -> ConfigCall | None:
    """Return the config call that dequantizes a checkpoint of quant_method `method` while it loads;
    None if there is none."""
    name = DEQUANTIZES.get(method)
    return None if name is None else ConfigCall(name=name, arguments={"dequantize": True})


def arguments(config: ConfigCall, storage: str | None = None) -> tuple[str, ...]:
    """Return the arguments of a config call as Python source; `storage` is the dtype of packed
    weights."""
    inner = config.inner
    given = [] if inner is None else [f"{inner.name}({', '.join(arguments(inner))})"]
    given += [
        f"{name}={(json.dumps(value) if isinstance(value, str) else repr(value))}"
        for name, value in config.arguments.items()
    ]
    given += [f"{name}=torch.{value}" for name, value in config.dtypes.items()]
    given += [f"bnb_4bit_quant_storage=torch.{storage}"] if storage is not None else []
    return tuple(given)


def named(name: str, arguments: Mapping[str, Any], inner: str = "") -> str | None:
    """Return the format name of a quantization config's class `name` and `arguments`; None if
    unknown. `inner`: torchao's config class."""
    reader = READS.get(name)
    return None if reader is None else reader(arguments, inner)


def _bits4(match: re.Match[str], computes: str) -> ConfigCall:
    arguments: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_quant_type": match[1]}
    if match[2]:
        arguments["bnb_4bit_use_double_quant"] = True
    return ConfigCall(name=BNB, arguments=arguments, dtypes={"bnb_4bit_compute_dtype": computes})


def _torchao(inner: str) -> Callable[[re.Match[str], str], ConfigCall]:
    def make(match: re.Match[str], computes: str) -> ConfigCall:
        arguments = {"group_size": int(match[1])} if match.groups() else {}
        return ConfigCall(name=AO, inner=ConfigCall(name=inner, arguments=arguments), since=(4, 53))

    return make


def _hqq(match: re.Match[str], computes: str) -> ConfigCall:
    arguments = {"nbits": int(match[1]), "group_size": int(match[2])}
    return ConfigCall(name="HqqConfig", arguments=arguments)


# Methods whose config has `dequantize` among its loading attributes
DEQUANTIZES: Mapping[str, str] = {
    "mxfp4": "Mxfp4Config",
    "fp8": "FineGrainedFP8Config",
    "compressed-tensors": "CompressedTensorsConfig",
}
BNB, AO = "BitsAndBytesConfig", "TorchAoConfig"
MAKES: tuple[tuple[str, Callable[[re.Match[str], str], ConfigCall]], ...] = (
    ("(nf4|fp4)(-dq)?", _bits4),
    ("bnb-int8", lambda match, computes: ConfigCall(name=BNB, arguments={"load_in_8bit": True})),
    (r"hqq-(\d)bit-g(\d+)", _hqq),
    ("torchao-int8", _torchao("Int8WeightOnlyConfig")),
    ("torchao-fp8", _torchao("Float8WeightOnlyConfig")),
    (r"torchao-int4-g(\d+)", _torchao("Int4WeightOnlyConfig")),
    (
        "quanto-(int8|float8|int4|int2)",
        lambda match, computes: ConfigCall(name="QuantoConfig", arguments={"weights": match[1]}),
    ),
    (
        "eetq",
        lambda match, computes: ConfigCall(name="EetqConfig", arguments={"weights": "int8"}),
    ),
    ("fp8-block", lambda match, computes: ConfigCall(name="FineGrainedFP8Config")),
)


def _of_bnb(arguments: Mapping[str, Any], inner: str) -> str | None:
    if arguments.get("load_in_8bit"):
        return "bnb-int8"
    if not arguments.get("load_in_4bit"):
        return None
    double = "-dq" if arguments.get("bnb_4bit_use_double_quant") else ""
    return f"{arguments.get('bnb_4bit_quant_type', 'fp4')}{double}"


def _of_torchao(arguments: Mapping[str, Any], inner: str) -> str | None:
    group = arguments.get("group_size", 128)
    return {
        "Int8WeightOnlyConfig": "torchao-int8",
        "Float8WeightOnlyConfig": "torchao-fp8",
        "Int4WeightOnlyConfig": f"torchao-int4-g{group}",
    }.get(inner)


READS: Mapping[str, Callable[[Mapping[str, Any], str], str | None]] = {
    BNB: _of_bnb,
    AO: _of_torchao,
    "HqqConfig": lambda g, _: f"hqq-{g.get('nbits', 4)}bit-g{g.get('group_size', 64)}",
    "QuantoConfig": lambda g, _: f"quanto-{g.get('weights', 'int8')}",
    "EetqConfig": lambda g, _: "eetq",
    "FineGrainedFP8Config": lambda g, _: None if g.get("dequantize") else "fp8-block",
}
