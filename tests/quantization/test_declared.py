"""Modules that a config leaves alone: names, wildcards, and a stranger's regular expressions."""

import random

import pytest

import weighbridge
from tests import work
from tests.cases import all_of
from tests.packings import CONFIG
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.quantization.declared import declared, untold
from weighbridge.models.quantization.module_names import named_by
from weighbridge.models.quantization.schemes import stored

PLAN = blueprint(Config(CONFIG))
HQQ = {"nbits": 8, "group_size": 32}
LINEARS = {p.name for p in PLAN.params if p.kind == "linear"}


def left_alone(*patterns):
    """Matrices that `ignore` keeps in the model's dtype, without those that FP8 itself leaves."""
    raw = {"quant_method": "compressed-tensors", "ignore": list(patterns)}
    raw |= {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}
    found = stored(PLAN, declared(raw), dtype=BFLOAT16)
    whole = {s.name for s in found if s.dtype is BFLOAT16}
    return {name.removeprefix("model.") for name in LINEARS & whole} - {"lm_head.weight"}


def ends(*names):
    return {n.removeprefix("model.") for n in LINEARS if n.removesuffix(".weight").endswith(names)}


@all_of(
    ("pattern", "expected"),
    [
        ("lm_head", set()),
        ("model.layers.0.mlp.up_proj", {"layers.0.mlp.up_proj.weight"}),
        ("up_proj", ends("up_proj")),
        ("p_proj", set()),  # not a whole name
        ("model.layers.1", {n for n in ends("proj") if n.startswith("layers.1.")}),
        ("model.layers.1*", {n for n in ends("proj") if n.startswith("layers.1.")}),
        ("*.mlp.*", ends("gate_proj", "up_proj", "down_proj")),
        ("model.layers.*.mlp.up_proj", ends("up_proj")),
        ("re:.*up_proj$", ends("up_proj")),
        ("re:.*self_attn", ends("q_proj", "k_proj", "v_proj", "o_proj")),
        ("re:up_proj", set()),  # re.match: from the start
        (r"re:model\.layers\.0\.mlp\.(gate|up)_proj", ends("0.mlp.gate_proj", "0.mlp.up_proj")),
    ],
)
def test_patterns(pattern, expected):
    assert left_alone(pattern) == expected


@pytest.mark.slow
def test_many_names_are_found_as_one_by_one():
    """A name stands between dots, but where a star is at that end of it."""
    rng = random.Random(7)
    words = ["", "a", "b", "ab", "a1", "a.b", "b.a1", "a.b.ab"]

    def one_by_one(text, path):
        before, after = ("" if star else "." for star in (text[:1] == "*", text[-1:] == "*"))
        return f"{before}{text.strip('*')}{after}" in f".{path}."

    for _ in range(2000):
        stars = rng.choices(("", "", "", "*"), k=2)
        names = [rng.choice(words).join(stars) for _ in range(rng.randrange(1, 9))]
        named = named_by(names)
        path = ".".join(rng.choices(words[1:], k=rng.randrange(1, 6)))
        assert named(path) == any(one_by_one(name, path) for name in names), (names, path)


@pytest.mark.parametrize(
    "pattern", ["re:(a+)+$", "re:(a|aa)*b", "re:" + ".*a" * 9, "re:" + "a" * 2000]
)
def test_no_expression_searches_for_hours(pattern):
    with pytest.raises(UnsupportedError, match="too intricate"):
        left_alone(pattern)


def test_a_broken_expression_is_named():
    with pytest.raises(BadFileError, match="missing"):
        left_alone("re:(q_proj")


def test_a_word_in_the_place_of_a_list():
    raw = {"quant_method": "fp8", "modules_to_not_convert": "up_proj"}
    found = stored(PLAN, declared(raw), dtype=BFLOAT16)
    assert {s.name for s in found if s.dtype is BFLOAT16} & LINEARS >= {
        "model.layers.0.mlp.up_proj.weight"
    }


@pytest.mark.slow
def test_hundreds_of_names_of_a_model_of_many_experts():
    """nvidia/Qwen3.5-397B-A17B-NVFP4 names 184 modules for 92,160 experts' matrices: each matrix is
    not compared with each name."""
    moe = {
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 64, "vocab_size": 10,
        "moe_intermediate_size": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 20,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    }  # fmt: skip
    plan = blueprint(Config(moe))

    def found(names):
        ignore = [
            f"model.layers.{i}.{m}*"
            for i in range(names // 3)
            for m in ("self_attn", "mlp.gate", "mlp.shared")
        ]
        raw = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", *ignore]}
        return list(stored(plan, declared(raw), dtype=BFLOAT16))

    few, many = (work.calls_made(lambda names=names: found(names)) for names in (180, 720))
    assert many < 2 * few
    assert sum(s.source.endswith("experts.127.up_proj.weight") for s in found(180)) >= 20


def test_floats_of_8_bits_in_groups_are_mxfp8():
    weights = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32}
    raw = {"quant_method": "compressed-tensors", "config_groups": {"0": {"weights": weights}}}
    assert declared(raw).name == "mxfp8"


@all_of(
    ("raw", "name", "said"),
    [
        ({"quant_method": "awq"}, "awq-4bit-g128", "no bits and no group_size: bits 4 and group_"),
        ({"quant_method": "awq", "w_bit": 4}, "awq-4bit-g128", "no group_size: group_size 128 is"),
        ({"quant_method": "gptq", "bits": 8}, "gptq-8bit-g128", "no group_size"),
        ({"quant_method": "gptq", "group_size": 32}, "gptq-4bit-g32", "no bits: bits 4 is taken"),
        ({"group_size": 32}, "mlx-4bit-g32", "mlx has no bits"),
        ({"quant_method": "mlx"}, "mlx-4bit-g64", "group_size 64"),
        ({"bits": 4, "group_size": 32, "desc_act": False}, "gptq-4bit-g32", ""),
        ({"bits": 4, "group_size": 64, "zero_point": True}, "awq-4bit-g64", ""),
        ({"quant_method": "hqq"}, "hqq-4bit-g64", "no nbits and no group_size"),
        ({"quant_method": "compressed-tensors"}, "w4a16", "no num_bits: num_bits 4"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "awq-4bit-g64", ""),
        (
            {"quant_method": "hqq", "quant_config": {"weight_quant_params": HQQ}},
            "hqq-8bit-g32",
            "",
        ),
        ({"quant_method": "fp8"}, "fp8-tensor", ""),
    ],
)
def test_a_size_that_no_config_names_is_told(raw, name, said):
    assert declared(raw).name == name
    assert said in untold(raw) if said else not untold(raw)


def test_what_is_taken_is_a_warning_of_the_answer():
    config = {**catalogue.find("qwen3-0.6b").config, "quantization_config": {"quant_method": "awq"}}
    report = weighbridge.load(config)
    assert [w for w in report.warnings if "bits 4 and group_size 128 are taken" in w]


def mixed(layers, **more):
    """Bytes of each parameter of a mixture by its module's name, and the format."""
    moe = {
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 64, "vocab_size": 10,
        "moe_intermediate_size": 32, "num_experts": 2, "num_experts_per_tok": 1, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    }  # fmt: skip
    raw = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", **more}
    form = declared(raw | {"quantized_layers": layers})
    sizes = {}
    for piece in stored(blueprint(Config(moe)), form, dtype=BFLOAT16):
        name = piece.source.removesuffix(".weight").removeprefix("model.")
        sizes[name] = sizes.get(name, 0) + piece.nbytes
    return form.name, sizes


FP8, FP4, FP4_ALONE = ({"quant_algo": name} for name in ("FP8", "NVFP4", "W4A16_NVFP4"))


def test_modules_have_formats_by_their_names():
    """q is 64 x 64, an expert's up 32 x 64: with FP8 a byte a number and two float32; with NVFP4
    half a byte, a scale for 16, and two float32. What is not named keeps two bytes."""
    name, sizes = mixed(
        {
            "model.language_model.layers.0.self_attn.q_proj": FP8,
            "model.language_model.layers.1.self_attn.q_proj": FP8,
            "model.language_model.layers.0.mlp.experts": FP4_ALONE,
            "language_model.model.layers.1.block_sparse_moe.experts.0.w1": FP4,
            "lm_head": FP4_ALONE,
        },
        ignore=["mtp*"],
    )
    assert name == "nvfp4, others fp8-static"
    assert sizes["layers.0.self_attn.q_proj"] == sizes["layers.1.self_attn.q_proj"] == 4096 + 8
    for expert in ("layers.0.mlp.experts.0.up_proj", "layers.1.mlp.experts.1.up_proj"):
        assert sizes[expert] == 32 * 64 // 2 + 32 * 64 // 16 + 8
    assert sizes["lm_head"] == 10 * 64 // 2 + 10 * 64 // 16 + 8
    assert sizes["layers.0.self_attn.k_proj"] == 2 * 32 * 64
    assert sizes["layers.0.mlp.gate"] == 2 * 2 * 64


def test_names_of_a_layer_are_not_those_of_another():
    _, sizes = mixed({"layers.1.mlp.experts.1.up_proj": FP8, "layers.1.self_attn": FP4})
    assert sizes["layers.0.mlp.experts.1.up_proj"] == 2 * 32 * 64
    assert sizes["layers.1.mlp.experts.1.up_proj"] == 32 * 64 + 8
    assert sizes["layers.1.self_attn.o_proj"] == 64 * 64 // 2 + 64 * 64 // 16 + 8


def test_modelopt_keeps_its_file_one_level_down():
    """hf_quant_config.json; ignored modules stay, whatever else says their names."""
    raw = {"quant_method": "modelopt", "quantization": {"quant_algo": "MXFP8"}}
    assert declared(raw).name == "mxfp8"
    for algorithm, name in (
        ("FP8_PB_WO", "fp8-block"),
        ("NVFP4_AWQ", "nvfp4"),
        ("FP8", "fp8-static"),
    ):
        assert declared({"quant_method": "modelopt", "quant_algo": algorithm}).name == name
    layers = {"layers.0.self_attn": FP8}
    _, sizes = mixed({}, quantization={"quantized_layers": layers}, ignore=["o_proj"])
    assert sizes["layers.0.self_attn.q_proj"] == 4096 + 8
    assert sizes["layers.0.self_attn.o_proj"] == 2 * 4096


def test_a_mixture_of_qwen3_6_is_as_large_as_its_files():
    """nvidia/Qwen3.6-35B-A3B-NVFP4 has 21.8 GiB of shards, 1.6 of them its MTP layer's in 16 bits:
    experts and the head in four bits, attention in eight."""
    pieces = ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.out_proj")
    heads = [f"self_attn.{name}_proj" for name in "qkvo"]
    shared = [f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")]
    at = "model.language_model.layers"
    layers = {f"{at}.{i}.{name}": FP8 for i in range(40) for name in (*pieces, *heads)}
    layers |= {f"{at}.{i}.{n}": FP4_ALONE for i in range(40) for n in ("mlp.experts", *shared)}
    layers |= {"lm_head": FP4_ALONE}
    raw = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    config = catalogue.find("qwen3.6-35b-a3b").config | {"quantization_config": raw}
    found = weighbridge.load(config).to_dict()
    weights = found["devices"][0]["phases"][0]["components"][0]["bytes"]["expected"]
    assert weights / 2**30 == pytest.approx(20.2, abs=0.05)
    served = weighbridge.infer(config, engine="vllm", engine_version="0.33", gpu="h100:2")
    assert served.to_dict()["workload"]["quantization"] == "fp8-static, others nvfp4"
