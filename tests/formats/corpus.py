"""Valid files of each format, small, as seeds for the fuzzer, and how to parse them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.formats.test_safetensors import entry, file_of
from weighbridge.formats import Plan, safetensors


@dataclass(frozen=True, kw_only=True)
class Target:
    plan: Callable[[int | None], Plan[Any]]
    seeds: Callable[[], Iterable[bytes]]
    tokens: tuple[bytes, ...] = ()


JSON_TOKENS = tuple(
    word.encode()
    for word in (
        *'{}[],:"\\',
        "null",
        "true",
        "1e999",
        "-1",
        "NaN",
        "0.5",
        '"\\ud800"',
        "[" * 500,
        '{"a":' * 500,
        "9" * 5000,
        "\ufeff",
    )
)


def safetensors_seeds():
    yield file_of({})
    yield file_of({"a": entry([2, 3]), "b": entry([4], 12, "F32")}, bytes(28))
    yield file_of(
        {"__metadata__": {"format": "pt"}, "é": entry([8], 0, "F4"), "s": entry([], 4)}, bytes(6)
    )
    many, at = {}, 0
    for i in range(40):
        many[f"model.layers.{i}.mlp.weight"] = e = entry([i, 7], at, "I64")
        at = e["data_offsets"][1]
    yield file_of(json.dumps(many, indent=1).encode(), bytes(at))


TARGETS = {
    "safetensors": Target(
        plan=lambda size: safetensors.header(size, first_read=64),
        seeds=safetensors_seeds,
        tokens=(*JSON_TOKENS, b'"__metadata__":{},', b'"dtype":"F4",', b'"shape":[[]],', b"\xff"),
    ),
}
