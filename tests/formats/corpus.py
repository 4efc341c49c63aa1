"""Valid files of each format, small, as seeds for the fuzzer, and how to parse them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.formats import build_torch
from tests.formats.build_gguf import Writer, small
from tests.formats.drive import parse_params
from tests.formats.test_safetensors import entry, file_of
from weighbridge.models.formats import ByteRange, Plan, safetensors
from weighbridge.models.formats.gguf import gguf
from weighbridge.models.formats.index import parse_index, parse_model_index, parse_modules
from weighbridge.models.formats.pytorch import pytorch, torch_legacy
from weighbridge.models.formats.unpickle import INSTRUCTIONS


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


def gguf_seeds():
    yield from (small().file(), small(">").file(), small(version=2).file())
    w = Writer()
    w.key("nested", w.nested(3)).key("many", w.array("u64", range(300))).key(
        "words", w.array("str", ["é"] * 60)
    )
    for i in range(12):
        w.tensor(f"blk.{i}.ffn_down.weight", [256, i + 1], ("Q6_K", "MXFP4", "BF16")[i % 3])
    yield w.file()


def pickles():
    """Values that use most opcodes, and some that torch would not write."""
    t, call, named = build_torch.tensor, build_torch.call, build_torch.named
    yield {"w": t("0", (2, 3)), "evil": call("os", "system", "true")}
    yield (
        named("m", "C")
        + b")\x81}("
        + b"".join(map(build_torch.value, ("_parameters", {"w": t("0", (2, 3))})))
        + b"ub"
    )
    yield call(
        "torch._utils",
        "_rebuild_parameter",
        t("0", (2, 3)),
        True,
        call("collections", "OrderedDict"),
    )
    yield [
        t("0", (2, 3)),
        b"]q\x01h\x01a",
        b"(lp5\ng5\na",
        b"(dS'x'\nI01\ns",
        b"F1.5\n",
        b"L12L\n",
        b"(im\nC\n",
        b"\x8f(K\x01\x90",
    ]
    yield (
        t("0", (2, 3)),
        b"\x8c\x01m\x8c\x01n\x93)R",
        b"\x94",
        b"G" + bytes(8),
        b"\x95" + bytes(8) + b"N",
        b"2",
        b"(1",
        b"K\x010",
    )


def zip_seeds():
    yield build_torch.zip_model()
    for v in pickles():
        yield build_torch.zipped(v, {"0": 24})


def legacy_seeds():
    yield build_torch.legacy_model()
    for v in pickles():
        raw = build_torch.pickle(v).replace(b"K\x06tQ", b"K\x06NtQ")
        yield build_torch.legacy(raw, {"0": (6, 24)})


PARAMS = {
    "dim": 64,
    "n_layers": 4,
    "head_dim": 16,
    "hidden_dim": 128,
    "n_heads": 4,
    "n_kv_heads": 2,
    "vocab_size": 100,
}
PARAMS |= {
    "sliding_window": [32, None],
    "moe": {"num_experts": 8, "num_experts_per_tok": 2},
    "yarn": {"factor": 4},
}
PARAMS |= {
    "llama_4_scaling": {"beta": 0.1},
    "quantization": {"qformat_weight": "fp8_e4m3"},
    "tied_embeddings": True,
}
VISION = {
    "hidden_size": 32,
    "mm_projector_id": "patch_merge",
    "adapter_bias": False,
    "spatial_merge_size": 2,
}
AUDIO = {
    "whisper_model_args": {
        "encoder_args": {"dim": 8, "n_layers": 1, "audio_encoding_args": {"num_mel_bins": 80}}
    }
}


def json_seeds():
    """One file for all parsers of small JSON files: the first byte says which one is meant, modulo their number."""
    files = {
        0: {
            "metadata": {"total_size": 7.0},
            "weight_map": {"a": "x-1.safetensors", "b": "dir/x-2.bin"},
        },
        1: {
            "_class_name": "P",
            "vae": ["diffusers", "A"],
            "safety": [None, None],
            "x": 3,
            "y": [1, 2],
        },
        2: [
            {"idx": 0, "name": "0", "path": "", "type": "s.models.T"},
            {"name": "1", "path": "1_P", "type": "P"},
        ],
        3: PARAMS,
        7: PARAMS | {"vision_encoder": VISION, "kv_lora_rank": 4},
        11: PARAMS | {"multimodal": AUDIO},
    }
    for which, file in files.items():
        yield bytes([which]) + json.dumps(file).encode()


SMALL = (parse_index, parse_model_index, parse_modules, parse_params)


def small_json(size):
    data = yield ByteRange(0, 1 << 20)
    return SMALL[data[0] % len(SMALL) if data else 0](data[1:])


TARGETS = {
    "safetensors": Target(
        plan=lambda size: safetensors.header(size, first_read=64),
        seeds=safetensors_seeds,
        tokens=(*JSON_TOKENS, b'"__metadata__":{},', b'"dtype":"F4",', b'"shape":[[]],', b"\xff"),
    ),
    "gguf": Target(plan=lambda size: gguf(size, first_read=64), seeds=gguf_seeds),
    "torch_zip": Target(
        plan=pytorch,
        seeds=zip_seeds,
        tokens=(
            b"PK\x05\x06",
            b"PK\x06\x06",
            b"PK\x06\x07",
            b"\xff" * 4,
            b"(",
            b"t",
            b"h\x00",
            b"q\x01",
            b"R",
            b"Q",
        ),
    ),
    "torch_legacy": Target(
        plan=lambda size: torch_legacy(size, first_read=64),
        seeds=legacy_seeds,
        tokens=(
            *(code.encode("latin-1") for code in sorted(INSTRUCTIONS)),
            b"2" * 1000,
            b"(" * 1000,
            b"]" * 1000,
            b"\x86" * 50,
        ),
    ),
    "json": Target(
        plan=small_json,
        seeds=json_seeds,
        tokens=(*JSON_TOKENS, b'"../x"', b'"/etc"', b"1" + b"0" * 300),
    ),
}
