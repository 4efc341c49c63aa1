"""From stored tensors back to parameters: hand-made layouts, and the law that both directions agree."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from tests.corpus import MODELS
from tests.quantization.models import model, plan
from weighbridge.base.dtypes import BFLOAT16, GGML_BY_NAME, TORCH
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.quantization.packed import logical
from weighbridge.models.quantization.schemes import NAMES, scheme, stored
from weighbridge.models.tensors import CheckpointTensor


def tensor(name, dtype, *shape):
    count = 1
    for size in shape:
        count *= size
    kind = TORCH[dtype] if dtype in TORCH else GGML_BY_NAME[dtype]
    return CheckpointTensor(name, kind, shape, kind.size(count))


def only(found):
    (param,) = found.params
    return param


def stored_tensors(what, name, transformers=5):
    found = stored(what, scheme(name), dtype=BFLOAT16, transformers=transformers)
    return [CheckpointTensor(t.name, t.dtype, t.shape, t.nbytes) for t in found]


# Layouts by hand: (tensors, config, parameter, its shape)
LAYOUTS = {
    "gptq": (
        [
            tensor("q.qweight", "int32", 512, 1024),
            tensor("q.qzeros", "int32", 32, 128),
            tensor("q.scales", "float16", 32, 1024),
            tensor("q.g_idx", "int32", 4096),
        ],
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True},
        ("q.weight", (1024, 4096)),
    ),
    "gptq, 3 bits, no g_idx and no config": (
        [
            tensor("q.qweight", "int32", 384, 1024),
            tensor("q.qzeros", "int32", 32, 96),
            tensor("q.scales", "float16", 32, 1024),
        ],
        None,
        ("q.weight", (1024, 4096)),
    ),
    "awq gemm": (
        [
            tensor("q.qweight", "int32", 4096, 128),
            tensor("q.qzeros", "int32", 32, 128),
            tensor("q.scales", "float16", 32, 1024),
        ],
        {"quant_method": "awq", "bits": 4, "version": "gemm"},
        ("q.weight", (1024, 4096)),
    ),
    "awq gemv": (
        [
            tensor("q.qweight", "int32", 1024, 512),
            tensor("q.qzeros", "int32", 1024, 8),
            tensor("q.scales", "float16", 1024, 64),
        ],
        {"quant_method": "awq", "bits": 4, "version": "gemv"},
        ("q.weight", (1024, 4096)),
    ),
    "nf4 with its blob": (
        [
            tensor("q.weight", "uint8", 2048, 1),
            tensor("q.weight.absmax", "uint8", 64),
            tensor("q.weight.quant_map", "float32", 16),
            tensor("q.weight.nested_absmax", "float32", 1),
            tensor("q.weight.nested_quant_map", "float32", 256),
            tensor("q.weight.quant_state.bitsandbytes__nf4", "uint8", 170),
        ],
        None,
        ("q.weight", (4096,)),
    ),
    "nf4 stored in bfloat16, for FSDP": (
        [tensor("q.weight", "bfloat16", 1024, 1), tensor("q.weight.absmax", "float32", 64)],
        None,
        ("q.weight", (4096,)),
    ),
    "LLM.int8": (
        [
            tensor("q.weight", "int8", 8, 16),
            tensor("q.SCB", "float32", 8),
            tensor("q.weight_format", "uint8"),
        ],
        None,
        ("q.weight", (8, 16)),
    ),
    "fp8 in blocks": (
        [
            tensor("q.weight", "float8_e4m3fn", 200, 300),
            tensor("q.weight_scale_inv", "float32", 2, 3),
        ],
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        ("q.weight", (200, 300)),
    ),
    "static fp8 of modelopt": (
        [
            tensor("q.weight", "float8_e4m3fn", 8, 16),
            tensor("q.weight_scale", "float32"),
            tensor("q.input_scale", "float32"),
        ],
        {"quantization": {"quant_algo": "FP8"}},
        ("q.weight", (8, 16)),
    ),
    "fp8 experts in one": (
        [
            tensor("experts.gate_up_proj", "float8_e4m3fn", 4, 256, 128),
            tensor("experts.gate_up_proj_scale_inv", "float32", 4, 2, 1),
        ],
        None,
        ("experts.gate_up_proj", (4, 256, 128)),
    ),
    "mxfp4 of gpt-oss": (
        [
            tensor("experts.down_proj_blocks", "uint8", 32, 2880, 90, 16),
            tensor("experts.down_proj_scales", "uint8", 32, 2880, 90),
        ],
        {"quant_method": "mxfp4"},
        ("experts.down_proj", (32, 2880, 2880)),
    ),
    "nvfp4 of modelopt": (
        [
            tensor("q.weight", "uint8", 64, 64),
            tensor("q.weight_scale", "float8_e4m3fn", 64, 8),
            tensor("q.weight_scale_2", "float32"),
            tensor("q.input_scale", "float32"),
        ],
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        ("q.weight", (64, 128)),
    ),
    "nvfp4 of compressed-tensors": (
        [
            tensor("q.weight_packed", "uint8", 64, 64),
            tensor("q.weight_scale", "float8_e4m3fn", 64, 8),
            tensor("q.weight_global_scale", "float32", 1),
            tensor("q.input_global_scale", "float32", 1),
        ],
        None,
        ("q.weight", (64, 128)),
    ),
    "fp4 experts of DeepSeek-V4": (
        [
            tensor("experts.0.w1.weight", "int8", 64, 64),
            tensor("experts.0.w1.scale", "float8_e8m0fnu", 64, 4),
        ],
        {"quant_method": "fp8", "expert_dtype": "fp4"},
        ("experts.0.w1.weight", (64, 128)),
    ),
    "int4 of compressed-tensors, asymmetric": (
        [
            tensor("q.weight_packed", "int32", 64, 32),
            tensor("q.weight_scale", "bfloat16", 64, 2),
            tensor("q.weight_zero_point", "int32", 8, 2),
            tensor("q.weight_shape", "int64", 2),
        ],
        {"config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 128}}}},
        ("q.weight", (64, 256)),
    ),
    "int8 of compressed-tensors, a scale a row": (
        [
            tensor("q.weight_packed", "int32", 64, 64),
            tensor("q.weight_scale", "bfloat16", 64, 1),
            tensor("q.weight_shape", "int64", 2),
        ],
        {"config_groups": {"group_0": {"weights": {"num_bits": 8, "group_size": None}}}},
        ("q.weight", (64, 256)),
    ),
    "hqq of 3 bits": (
        [
            tensor("q.W_q", "int32", 205, 64),
            tensor("q.scale", "float16", 2048, 1),
            tensor("q.zero", "float16", 2048, 1),
            tensor("q.nbits", "int64", 1),
            tensor("q.shape", "int64", 2),
        ],
        None,
        ("q.weight", (2048, 64)),
    ),
    "hqq along the other axis": (
        [
            tensor("q.W_q", "uint8", 32, 2048),
            tensor("q.scale", "float16", 1, 2048),
            tensor("q.zero", "float16", 1, 2048),
        ],
        {"quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64, "axis": 0}}},
        ("q.weight", (64, 2048)),
    ),
    "tiles of torchao": (
        [
            tensor("q._weight_qdata", "int32", 64, 2, 32, 4),
            tensor("q._weight_scale_and_zero", "bfloat16", 2, 512, 2),
        ],
        None,
        ("q.weight", (512, 256)),
    ),
    "mlx with bits of its own": (
        [
            tensor("model.q.weight", "uint32", 8, 64),
            tensor("model.q.scales", "bfloat16", 8, 4),
            tensor("model.q.biases", "bfloat16", 8, 4),
        ],
        {"bits": 4, "group_size": 32, "model.q": {"bits": 8, "group_size": 64}},
        ("model.q.weight", (8, 256)),
    ),
    "aqlm": (
        [
            tensor("q.codes", "int16", 64, 32, 2),
            tensor("q.codebooks", "float16", 2, 256, 1, 8),
            tensor("q.scales", "float16", 64, 1, 1, 1),
        ],
        {"quant_method": "aqlm"},
        ("q.weight", (64, 256)),
    ),
    "bitnet": (
        [tensor("q.weight", "uint8", 16, 64), tensor("q.weight_scale", "bfloat16", 1)],
        {"quant_method": "bitnet"},
        ("q.weight", (64, 64)),
    ),
}


@all_of("name", LAYOUTS)
def test_layout(name):
    tensors, config, expected = LAYOUTS[name]
    found = logical(tensors, config)
    param = only(found)
    assert (param.name, param.shape) == expected
    assert param.nbytes == sum(t.nbytes for t in tensors)
    assert set(param.stored) == {t.name for t in tensors}
    assert not found.notes


def test_plain_tensors_and_gguf_are_as_they_are():
    tensors = [tensor("a.weight", "bfloat16", 3, 4), tensor("b.weight", "Q4_K", 4, 256)]
    found = logical(tensors, None)
    assert [(p.name, p.shape, p.format) for p in found.params] == [
        ("a.weight", (3, 4), "bfloat16"),
        ("b.weight", (4, 256), "Q4_K"),
    ]
    assert not found.notes


def test_scales_of_the_cache_are_no_parameters():
    tensors = [
        tensor("self_attn.k_scale", "float32"),
        tensor("self_attn.v_scale", "float32", 1),
        tensor("norm.weight", "bfloat16", 8),
    ]
    assert only(logical(tensors, None)).name == "norm.weight"


def test_scales_beside_plain_weights_are_parameters():
    """Gemma-4's router has a `scale`, and layers a `layer_scalar`: they are trained."""
    tensors = [
        tensor("router.proj.weight", "bfloat16", 128, 64),
        tensor("router.scale", "bfloat16", 64),
        tensor("router.per_expert_scale", "bfloat16", 128),
    ]
    assert sum(p.numel for p in logical(tensors, None).params) == 128 * 64 + 64 + 128


def test_what_is_not_understood_is_counted_as_stored_with_a_note():
    found = logical([tensor("q.trellis", "int16", 4, 4, 64)], {"quant_method": "exl3"})
    assert only(found).shape == (4, 4, 64)
    assert len(found.notes) == 1
    assert "1 tensors named 'trellis' are int16 and fit no packed layout" in found.notes[0]


def test_bits_that_only_the_scales_tell_are_noted():
    """8 bits in groups of 32 look like 4 bits in groups of 64; a config decides."""
    tensors = [
        tensor("q.weight", "uint32", 8, 64),
        tensor("q.scales", "bfloat16", 8, 8),
        tensor("q.biases", "bfloat16", 8, 8),
    ]
    guessed = logical(tensors, None)
    assert only(guessed).shape == (8, 512)
    assert "how many bits" in guessed.notes[0]
    told = logical(tensors, {"bits": 8, "group_size": 32})
    assert only(told).shape == (8, 256)
    assert not told.notes


def test_int32_rows_without_bits_are_not_guessed():
    tensors = [
        tensor("q.weight_packed", "int32", 64, 64),
        tensor("q.weight_scale", "bfloat16", 64, 1),
    ]
    assert "weight_packed" in logical(tensors, None).notes[0]


HOSTILE = [
    ([tensor("q.qweight", "int32", 8), tensor("q.scales", "float16")], {"bits": -4}),
    ([tensor("q.qweight", "int32", 0, 0), tensor("q.scales", "float16", 0, 0)], {"bits": True}),
    ([tensor("q.weight", "uint32", 8), tensor("q.scales", "float16", 0)], {"bits": 0}),
    ([tensor("q.weight", "uint32"), tensor("q.scales", "float16")], {"q": 7, "quantization": 3}),
    ([tensor("q.W_q", "uint8", 4), tensor("q.scale", "int8"), tensor("q.zero", "int8")], None),
    (
        [tensor("q.weight_packed", "int32", 4, 0), tensor("q.weight_scale", "int8", 4, 0)],
        {"config_groups": {"a": 3, "b": {"weights": [1]}, "c": {"weights": {"num_bits": "4"}}}},
    ),
    ([tensor("q.codes", "int8", 2), tensor("q.codebooks", "int8"), tensor("q.scales", "int8")], {}),
    ([tensor("x_blocks", "uint8"), tensor("x_scales", "uint8")], {}),
]


@all_of(("tensors", "config"), HOSTILE)
def test_nonsense_is_read_as_stored(tensors, config):
    for p in logical(tensors, config).params:
        assert all(size >= 0 for size in p.shape)


# The law: what a scheme stores is read back as the parameters that it was given

NAMED = (*NAMES, "gptq-3bit-g64", "gptq-8bit", "mlx-8bit-g32", "mlx-3bit-g64", "hqq-3bit-g64")


def config(name):
    """What such a checkpoint's config says."""
    family, _, rest = name.partition("-")
    if family == "mlx" and "bit" in rest:
        bits, group = rest.split("bit-g")
        return {"bits": int(bits), "group_size": int(group)}
    if family[0] == "w" and "a16" in family:
        group = int(rest.removeprefix("g")) if rest else None
        return {
            "config_groups": {"0": {"weights": {"num_bits": int(family[1]), "group_size": group}}}
        }
    return None


@st.composite
def blueprints(draw):
    width = 256 * draw(st.integers(1, 3))
    inner = 256 * draw(st.integers(1, 3))
    rows = 32 * draw(st.integers(1, 20))
    experts = draw(st.integers(0, 3))
    share = (1, max(1, experts))
    at = "model.layers.0."
    params = [
        Param("model.embed_tokens.weight", (rows, width), "embedding"),
        Param(f"{at}self_attn.q_proj.weight", (inner, width)),
        Param(f"{at}self_attn.q_proj.bias", (inner,), "bias"),
        Param(f"{at}mlp.c_proj.weight", (inner, width), "conv1d"),
        Param(f"{at}conv.weight", (rows, 3, 3), "conv"),
        Param(f"{at}mlp.gate.weight", (max(1, experts), width), "router"),
    ]
    for i in range(experts):
        name = f"{at}mlp.experts.{i}.down_proj.weight"
        params.append(Param(name, (width, inner), "expert", routed=share))
    if draw(st.booleans()):
        shape = (experts + 1, 2 * inner, width)
        params.append(Param(f"{at}mlp.experts.gate_up_proj", shape, "experts", routed=share))
    tied = "model.embed_tokens.weight" if draw(st.booleans()) else ""
    params += [
        Param("model.norm.weight", (width,), "norm"),
        Param("lm_head.weight", (rows, width), tied=tied),
    ]
    return plan(*params)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(what=blueprints(), name=st.sampled_from(NAMED), transformers=st.sampled_from([4, 5]))
def test_reading_back_gives_the_same_parameters(what, name, transformers):
    tensors = stored_tensors(what, name, transformers)
    found = logical(tensors, config(name))
    assert sum(p.numel for p in found.params) == what.parameters
    assert sum(p.nbytes for p in found.params) == sum(t.nbytes for t in tensors)
    assert sorted(n for p in found.params for n in p.stored) == sorted(t.name for t in tensors)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("gpt-oss-20b", "mxfp4"),
        ("qwen3-14b", "mlx-4bit-g64"),
        ("qwen-7b", "gptq-4bit-g128"),
        ("llama-2-13b", "nf4-dq"),
        ("deepseek-v3", "fp8-block"),
    ],
)
def test_published_models_keep_their_count(which, name):
    tensors = stored_tensors(model(which), name)
    found = logical(tensors, config(name))
    assert sum(p.numel for p in found.params) == model(which).parameters


PARAMETERS = {  # of the classes in transformers
    "gpt-oss-20b": 20_914_757_184,
    "qwen3-14b": 14_768_307_200,
    "llama-2-13b": 13_015_864_320,
    "deepseek-v3": 671_026_419_200 - 58 * 256,  # which counts the routers' correction biases
}


@pytest.mark.parametrize("which", PARAMETERS)
def test_the_counts_themselves(which):
    assert model(which).parameters == PARAMETERS[which]


INDEXES = {
    "openai__gpt-oss-20b": ("gpt-oss-20b", "mxfp4", ()),
    "lmstudio-community__Qwen3-14B-MLX-4bit": ("qwen3-14b", "mlx-4bit-g64", ()),
    "jeevanchaps__Meta-Llama3.1-8B-Instruct-assessment": (
        "llama-3.1-8b",
        "bnb-int8",
        (".weight_format",),
    ),
    "IrfanUruchi__Llama-2-13B-Computer-Engineering": (
        "llama-2-13b",
        "nf4-dq",
        (".nested_offset", ".quant_state.bitsandbytes__nf4"),
    ),
    "Qwen__Qwen-7B-Chat-Int4": ("qwen-7b", "gptq-4bit-g128", (".bias",)),
}


@all_of("folder", INDEXES)
def test_names_are_those_of_the_published_index(folder):
    path = MODELS / folder / "model.safetensors.index.json"
    if not path.exists():
        pytest.skip("the corpus of published configs is not beside this checkout")
    which, name, elsewhere = INDEXES[folder]
    published = set(json.loads(path.read_text())["weight_map"])
    ours = {t.name for t in stored_tensors(model(which), name)}
    assert {n for n in published ^ ours if not n.endswith(elsewhere)} == set()
