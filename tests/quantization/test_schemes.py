"""One weight in each format: worked numbers, exact tensors, and what each format leaves alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from tests.engines.answers import named
from tests.quantization.models import model, one, packed, pieces, plan, total
from weighbridge.base.dtypes import BFLOAT16, FLOAT16
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.quantization import integers
from weighbridge.models.quantization.ggml import ggml_role
from weighbridge.models.quantization.schemes import NAMES, describe, scheme, stored

UP = "model.layers.0.mlp.up_proj.weight"
CONTRACT = NAMES[:13]


# The Linear 4096 -> 14336 of Llama-3-8B: 58,720,256 weights.
WORKED = {
    "nf4": 33_030_144 + 64,
    "nf4-dq": 29_360_128 + 917_504 + 14_336 + 64 + 1024 + 4,
    "gptq-4bit-g128": 30_507_008 + 16_384,
    "awq-4bit-g128": 30_507_008,
    "bnb-int8": 58_777_600,
    "fp8-tensor": 58_720_256 + 4,
    "fp8-dynamic": 58_720_256 + 14336 * 4,
    "fp8-block": 58_720_256 + 112 * 32 * 4,
    "mxfp4": 58_720_256 * 17 // 32,
    "mxfp8": 58_720_256 * 33 // 32,
    "nvfp4": 58_720_256 * 9 // 16 + 8,
    "hqq-4bit-g64": 58_720_256 * 9 // 16,
    "hqq-4bit-g128": 58_720_256 * 17 // 32,
    "torchao-int8": 58_720_256 + 14336 * 5,
    "torchao-int4-g128": 58_720_256 * 17 // 32,
    "mlx-4bit-g64": 58_720_256 * 9 // 16,
    "mlx-3bit-g64": 58_720_256 * 7 // 16,
    "mlx-8bit-g32": 58_720_256 * 9 // 8,
    "quanto-int8": 58_720_256 + 14336 * 2 + 4,
    "quanto-int4": 58_720_256 * 17 // 32 + 4,
    "eetq": 58_720_256 + 14336 * 2,
    "w4a16-g128": 58_720_256 * 33 // 64 + 16,
    "w8a16": 58_720_256 + 14336 * 2 + 16,
    "Q8_0": 58_720_256 * 34 // 32,
    "Q4_0": 58_720_256 * 18 // 32,
}


@all_of("name", WORKED)
def test_worked_linear(name):
    found = stored(one(14336, 4096), scheme(name), dtype=BFLOAT16)
    assert sum(t.nbytes for t in found if t.source == UP) == WORKED[name]


TENSORS = {
    "bnb-int8": {"weight": ("int8", (512, 256)), "SCB": ("float32", (512,))},
    "nf4-dq": {
        "weight": ("uint8", (65536, 1)),
        "weight.absmax": ("uint8", (2048,)),
        "weight.quant_map": ("float32", (16,)),
        "weight.nested_absmax": ("float32", (8,)),
        "weight.nested_quant_map": ("float32", (256,)),
        "weight.nested_offset": ("float32", ()),
    },
    "gptq-3bit-g64": {
        "qweight": ("int32", (24, 512)),
        "qzeros": ("int32", (4, 48)),
        "scales": ("float16", (4, 512)),
        "g_idx": ("int32", (256,)),
    },
    "gptq-8bit": {
        "qweight": ("int32", (64, 512)),
        "qzeros": ("int32", (1, 128)),
        "scales": ("float16", (1, 512)),
        "g_idx": ("int32", (256,)),
    },
    "awq-4bit-g64": {
        "qweight": ("int32", (256, 64)),
        "qzeros": ("int32", (4, 64)),
        "scales": ("float16", (4, 512)),
    },
    "fp8-block": {
        "weight": ("float8_e4m3fn", (512, 256)),
        "weight_scale_inv": ("float32", (4, 2)),
    },
    "fp8-static": {
        "weight": ("float8_e4m3fn", (512, 256)),
        "weight_scale": ("float32", (1,)),
        "input_scale": ("float32", (1,)),
    },
    "mxfp8": {
        "weight": ("float8_e4m3fn", (512, 256)),
        "weight_scale": ("uint8", (512, 8)),
    },
    "nvfp4": {
        "weight_packed": ("uint8", (512, 128)),
        "weight_scale": ("float8_e4m3fn", (512, 16)),
        "weight_global_scale": ("float32", (1,)),
        "input_global_scale": ("float32", (1,)),
    },
    "mlx-6bit-g64": {
        "weight": ("uint32", (512, 48)),
        "scales": ("bfloat16", (512, 4)),
        "biases": ("bfloat16", (512, 4)),
    },
    "mlx-nvfp4": {"weight": ("uint32", (512, 32)), "scales": ("uint8", (512, 16))},
    "w4a16-g64": {
        "weight_packed": ("int32", (512, 32)),
        "weight_scale": ("bfloat16", (512, 4)),
        "weight_shape": ("int64", (2,)),
    },
    "w8a8-int8": {"weight": ("int8", (512, 256)), "weight_scale": ("bfloat16", (512, 1))},
    "Q4_K_S": {"weight": ("Q4_K", (512, 256))},
}


def test_blocks_of_fp8_cover_the_edges():
    assert pieces(one(200, 300), "fp8-block", UP)["weight_scale_inv"] == ("float32", (2, 3))


def test_three_bits_of_hqq_are_ten_to_an_int32():
    assert pieces(one(512, 256), "hqq-3bit-g64", UP)["W_q"] == ("int32", (205, 64))


@pytest.mark.parametrize("turned", [False, True])
def test_stacked_experts_in_either_order(turned):
    """gpt-oss and Llama 4 have [E, in, out]; the model's width of 256 tells the sides apart."""
    up, down = (4, 1024, 256), (4, 256, 512)
    if turned:
        up, down = (4, 256, 1024), (4, 512, 256)
    at = "model.layers.0.mlp.experts."
    moe = plan(
        Param("model.embed_tokens.weight", (8, 256), "embedding"),
        Param(f"{at}gate_up_proj", up, "experts"),
        Param(f"{at}down_proj", down, "experts"),
        Param("model.norm.weight", (256,), "norm"),
    )
    assert pieces(moe, "mxfp4", f"{at}gate_up_proj")["_scales"] == ("uint8", (4, 1024, 8))
    assert pieces(moe, "mxfp4", f"{at}down_proj")["_scales"] == ("uint8", (4, 256, 16))


@all_of("name", TENSORS)
def test_tensors_of_a_small_linear(name):
    assert pieces(one(512, 256), name, UP) == TENSORS[name]


@pytest.mark.parametrize("name", ["bnb-int8", "nf4", "gptq-4bit-g128"])
def test_conv1d_is_a_linear_turned(name):
    linear, turned = one(512, 256), one(512, 256, "conv1d")
    assert pieces(linear, name, UP) == pieces(turned, name, UP)


@pytest.mark.parametrize("name", ["hqq-4bit-g64", "torchao-int8", "quanto-int8", "eetq"])
def test_conv1d_is_left_alone_by_what_asks_for_a_linear(name):
    assert not packed(one(512, 256, "conv1d"), name)


def test_gpt_oss_experts_in_blocks():
    found = pieces(model("gpt-oss-20b"), "mxfp4", "model.layers.0.mlp.experts.down_proj")
    assert found == {"_blocks": ("uint8", (32, 2880, 90, 16)), "_scales": ("uint8", (32, 2880, 90))}


# What is left alone


def test_llama_8b_quantizes_the_seven_linears_of_each_layer():
    for name in ("nf4", "bnb-int8", "gptq-4bit-g128", "awq-4bit-g128", "fp8-block", "hqq-4bit-g64"):
        found = packed(model("llama-3.1-8b"), name)
        assert len(found) == 7 * 32, name
        assert not any("norm" in n or "embed" in n or "lm_head" in n for n in found), name


def test_mlx_quantizes_the_embedding_and_the_head_as_well():
    assert len(packed(model("llama-3.1-8b"), "mlx-4bit-g64")) == 7 * 32 + 2


@pytest.mark.slow
def test_experts_and_routers_by_version_of_transformers():
    moe = model("qwen3-30b-a3b")
    experts = 48 * 128 * 3
    for name in ("nf4", "torchao-int8", "hqq-4bit-g64", "quanto-int8"):
        assert len(packed(moe, name)) == 48 * 4, name
        assert len(packed(moe, name, transformers=4)) == 48 * (4 + 1) + experts, name
    for name in ("gptq-4bit-g128", "fp8-block", "nvfp4"):
        assert len(packed(moe, name)) == 48 * 4 + experts, name
    assert len(packed(moe, "mxfp4")) == experts


def test_routers_that_are_no_linears_stay():
    moe = plan(
        Param("model.embed_tokens.weight", (64, 64), "embedding"),
        Param("model.layers.0.mlp.gate.weight", (8, 64), "router"),
        Param("model.norm.weight", (64,), "norm"),
        cls="DeepseekV3ForCausalLM",
    )
    assert not packed(moe, "nf4") | packed(moe, "nf4", transformers=4)
    assert packed(moe, "mlx-4bit-g64") == {"model.embed_tokens.weight"}


def test_a_tied_head_is_stored_once_and_stays():
    small = model("qwen2.5-0.5b")
    for name in ("nf4", "bnb-int8", "torchao-int8", "gptq-4bit-g128", "fp8-tensor"):
        found = [t.name for t in stored(small, scheme(name), dtype=BFLOAT16)]
        assert "lm_head.weight" not in found
        assert found.count("model.embed_tokens.weight") == 1


@pytest.mark.parametrize(("version", "quantized"), [(5, True), (4, False)])
def test_a_last_linear_with_bias(version, quantized):
    """get_keys_to_not_convert of version 5 does not recognise it, that of version 4 does."""
    classifier = plan(
        Param("bert.embeddings.word_embeddings.weight", (100, 64), "embedding"),
        Param("bert.encoder.layer.0.output.dense.weight", (64, 128)),
        Param("classifier.weight", (2, 64)),
        Param("classifier.bias", (2,), "bias"),
        cls="BertForSequenceClassification",
    )
    assert ("classifier.weight" in packed(classifier, "nf4", version)) is quantized


def test_a_last_linear_without_bias_stays():
    scored = plan(Param("layers.0.up.weight", (64, 64)), Param("score.weight", (2, 64)))
    assert packed(scored, "bnb-int8") == {"layers.0.up.weight"}


def test_t5_keeps_wo():
    t5 = plan(
        Param("shared.weight", (64, 64), "embedding"),
        Param("encoder.block.0.layer.1.DenseReluDense.wo.weight", (64, 128)),
        Param("encoder.block.0.layer.1.DenseReluDense.wi.weight", (128, 64)),
        Param("encoder.final_layer_norm.weight", (64,), "norm"),
        cls="T5EncoderModel",
    )
    assert packed(t5, "nf4") == {"encoder.block.0.layer.1.DenseReluDense.wi.weight"}


def test_towers():
    """bitsandbytes replaces every nn.Linear; published checkpoints leave the vision part alone."""
    seeing = plan(
        Param("model.visual.blocks.0.mlp.fc1.weight", (256, 256)),
        Param("model.language_model.embed_tokens.weight", (99, 256), "embedding"),
        Param("model.language_model.layers.0.mlp.up_proj.weight", (512, 256)),
        Param("model.language_model.norm.weight", (256,), "norm"),
        blocks=("model.visual.blocks.*", "model.language_model.layers.*"),
        parts=(("model.visual.", "vision tower"),),
    )
    for name in ("nf4", "torchao-int8", "quanto-int8", "hqq-4bit-g64", "eetq"):
        assert "model.visual.blocks.0.mlp.fc1.weight" in packed(seeing, name), name
    for name in ("gptq-4bit-g128", "awq-4bit-g128", "fp8-block", "mlx-4bit-g64", "nvfp4", "mxfp4"):
        assert "model.visual.blocks.0.mlp.fc1.weight" not in packed(seeing, name), name
    tower = pieces(seeing, "Q4_K_M", "model.visual.blocks.0.mlp.fc1.weight")
    assert tower == {"weight": ("float16", (256, 256))}


def test_what_the_class_keeps_in_float32_stays_so():
    kept = plan(
        Param("a.weight", (64, 64), "norm", dtype="float32"), Param("b.weight", (4,), "norm")
    )
    found = {t.name: t.dtype.name for t in stored(kept, scheme("nf4"), dtype=FLOAT16)}
    assert found == {"a.weight": "float32", "b.weight": "float16"}


# Shapes that a group does not divide


def test_torchao_and_mlx_skip_what_the_group_does_not_divide():
    odd = one(64, 96)
    for name in ("torchao-int4-g128", "mlx-4bit-g64"):
        assert UP not in packed(odd, name), name
    for name in ("torchao-int4-g32", "mlx-4bit-g32", "nvfp4"):
        assert UP in packed(odd, name), name


@pytest.mark.parametrize("name", ["awq-4bit-g128", "hqq-4bit-g128", "Q8_0", "Q4_0"])
def test_formats_that_refuse_a_shape_say_so(name):
    with pytest.raises(UnsupportedError, match=r"up_proj\.weight"):
        total(one(8, 72), name)


def test_gptq_rounds_up():
    found = pieces(one(30, 72), "gptq-4bit-g64", UP)
    assert found["qweight"] == ("int32", (9, 30))
    assert found["qzeros"] == ("int32", (2, 4))


# GGUF


@all_of(
    ("name", "inputs", "kind"),
    [
        ("Q4_K_S", 256, "Q4_K"),
        ("Q4_K_S", 288, "Q5_0"),
        ("Q5_K_S", 288, "Q5_1"),
        ("Q6_K", 288, "Q8_0"),
        ("IQ4_XS", 288, "IQ4_NL"),
        ("Q3_K_S", 288, "Q4_0"),
        ("Q4_K_S", 72, "F16"),
    ],
)
def test_gguf_falls_back_where_the_block_does_not_divide_the_row(name, inputs, kind):
    assert pieces(one(64, inputs), name, UP)["weight"][0] == kind


def roles(name, layers, gqa=4, experts=1):
    """{gguf-like name: type} of a model of small layers."""
    per = (1, experts) if experts > 1 else (1, 1)
    up = "block_sparse_moe.experts.0.w3" if experts > 1 else "mlp.up_proj"
    down = "block_sparse_moe.experts.0.w2" if experts > 1 else "mlp.down_proj"
    params = [Param("model.embed_tokens.weight", (512, 256), "embedding")]
    for i in range(layers):
        at = f"model.layers.{i}."
        params += [
            Param(f"{at}self_attn.q_proj.weight", (256, 256)),
            Param(f"{at}self_attn.k_proj.weight", (256 // gqa, 256)),
            Param(f"{at}self_attn.v_proj.weight", (256 // gqa, 256)),
            Param(f"{at}self_attn.o_proj.weight", (256, 256)),
            Param(
                f"{at}{up}.weight", (256, 256), "expert" if experts > 1 else "linear", routed=per
            ),
            Param(
                f"{at}{down}.weight", (256, 256), "expert" if experts > 1 else "linear", routed=per
            ),
        ]
    params += [Param("model.norm.weight", (256,), "norm"), Param("lm_head.weight", (512, 256))]
    found = stored(plan(*params), scheme(name), dtype=BFLOAT16)
    return {
        t.name.removeprefix("model.layers.").removesuffix(".weight"): t.dtype.name for t in found
    }


def test_q4_k_m_gives_more_bits_to_the_ends_and_every_third_layer():
    """32 layers: 0-3 and 28-31, and of those between 6, 9, ... 27 (i - 4 = 2 mod 3)."""
    found = roles("Q4_K_M", 32)
    more = {i for i in range(32) if found[f"{i}.mlp.down_proj"] == "Q6_K"}
    assert more == {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
    assert {i for i in range(32) if found[f"{i}.self_attn.v_proj"] == "Q6_K"} == more
    assert found["lm_head"] == "Q6_K"
    assert found["model.embed_tokens"] == "Q4_K"
    assert found["model.norm"] == "float32"


def test_eight_experts_keep_keys_and_values_in_q8_0():
    found = roles("Q4_K_M", 4, experts=8)
    assert {found[f"{i}.self_attn.{n}_proj"] for i in range(4) for n in "kv"} == {"Q8_0"}
    assert {found[f"{i}.self_attn.o_proj"] for i in range(4)} == {"Q5_K"}
    assert roles("Q4_K_M", 4, experts=16)["1.self_attn.k_proj"] == "Q4_K"


def test_80_layers_with_grouped_queries_give_values_q5_k():
    assert roles("Q3_K_S", 80)["40.self_attn.v_proj"] == "Q5_K"
    assert roles("Q3_K_S", 80, gqa=1)["40.self_attn.v_proj"] == "Q3_K"
    assert roles("Q3_K_S", 79)["40.self_attn.v_proj"] == "Q3_K"


def test_q2_k_depends_on_grouped_queries():
    assert roles("Q2_K", 4, gqa=4)["1.self_attn.v_proj"] == "Q4_K"
    assert roles("Q2_K", 4, gqa=2)["1.self_attn.v_proj"] == "Q3_K"


@pytest.mark.parametrize(("rows", "kind"), [(256 + 2 * 64, "Q4_K"), (3 * 256, "Q3_K")])
def test_grouped_queries_are_seen_in_a_fused_projection(rows, kind):
    """256 of 384 rows are queries: four query heads to a key head. In 768 rows it is one."""
    fused = plan(
        Param("model.embed_tokens.weight", (8, 256), "embedding"),
        Param("model.layers.0.self_attn.qkv_proj.weight", (rows, 256)),
        Param("model.layers.0.self_attn.o_proj.weight", (256, 256)),
    )
    at = "model.layers.0.self_attn.qkv_proj.weight"
    assert pieces(fused, "Q2_K", at)["weight"][0] == kind


@all_of(
    ("name", "part"),
    [
        ("transformer.h.0.mlp.w1", "up"),
        ("transformer.h.0.mlp.w2", "gate"),
        ("model.layers.0.feed_forward.w1", "gate"),
        ("model.layers.0.block_sparse_moe.experts.5.w2", "down"),
        ("transformer.h.0.attn.c_proj", "out"),
        ("transformer.h.0.mlp.c_proj", "down"),
        ("bert.encoder.layer.0.attention.output.dense", "out"),
        ("bert.encoder.layer.0.intermediate.dense", "up"),
        ("bert.encoder.layer.0.output.dense", "down"),
        ("model.layers.0.linear_attn.out_proj", ""),
        ("model.layers.0.linear_attn.in_proj_qkvz", "v"),
        ("encoder.block.0.layer.1.DenseReluDense.wo", "down"),
    ],
)
def test_roles_are_those_of_gguf_py(name, part):
    assert ggml_role(Param(f"{name}.weight", (4, 4))) == part


def test_mxfp4_moe_is_for_experts_only():
    found = roles("MXFP4_MOE", 2, experts=4)
    assert found["0.block_sparse_moe.experts.0.w2"] == "MXFP4"
    assert found["0.self_attn.q_proj"] == found["lm_head"] == "Q8_0"


def test_a_tied_embedding_has_the_type_of_the_output():
    found = pieces(model("qwen2.5-0.5b"), "Q4_K_M", "model.embed_tokens.weight")
    assert found["weight"][0] == "Q8_0"  # 896 is not a multiple of 256: Q6_K does not fit


@pytest.mark.slow
def test_latent_attention_splits_the_keys_from_the_values():
    found = pieces(model("deepseek-v3"), "Q4_K_M", "model.layers.9.self_attn.kv_b_proj.weight")
    assert found == {"k_b.weight": ("Q5_0", (128, 512, 128)), "v_b.weight": ("Q4_K", (16384, 512))}


# Names


@all_of("name", [*NAMES, "q4_k_m", "NF4", "gptq-2bit-g-1", "mlx-8bit-g32"])
def test_known_names(name):
    found = scheme(name)
    assert found.left in describe(found)
    assert found.source in describe(found)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nf5", "nf4"),
        ("gptq-5bit-g128", "gptq-4bit-g128"),
        ("Q4_K_X", "Q4_K_M"),
        ("zzz", "people use nf4, "),
    ],
)
def test_unknown_names_get_the_nearest(name, hint):
    with pytest.raises(UsageError, match=hint):
        scheme(name)


# Laws


@pytest.mark.slow
@given(
    name=st.sampled_from(CONTRACT),
    outputs=st.integers(1, 40).map(lambda n: n * 32),
    inputs=st.integers(1, 12).map(lambda n: n * 256),
)
def test_every_format_takes_less_than_16_bits_and_more_than_its_values(name, outputs, inputs):
    """... for weights large enough that the maps of nf4-dq (about 1 KiB) do not matter."""
    count = outputs * inputs
    found = stored(one(outputs, inputs), scheme(name), dtype=BFLOAT16)
    size = sum(t.nbytes for t in found if t.source == UP)
    bits = 8 if "8" in name.partition("-g")[0] else 4
    assert count * bits // 8 < size < 2 * count + 1200


PLACELESS = sorted(set(NAMES) - {"IQ3_XS"})  # whose up_proj does not look at its layer


def stack(layers):
    ups = [Param(f"model.layers.{i}.mlp.up_proj.weight", (64, 256)) for i in range(layers)]
    return plan(
        Param("model.embed_tokens.weight", (8, 256), "embedding"),
        *ups,
        Param("model.norm.weight", (256,), "norm"),
    )


@pytest.mark.slow
@given(name=st.sampled_from(PLACELESS), layers=st.integers(1, 5))
def test_layers_add_up(name, layers):
    step = total(stack(2), name) - total(stack(1), name)
    assert total(stack(layers), name) == total(stack(1), name) + (layers - 1) * step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("gemma-4-26b-a4b", "awq-4bit-g32"),  # experts of 704, feed-forwards of 2,112
        ("gpt-oss-20b", "awq-4bit-g32"),  # 2,880 everywhere
        ("glm-4.5-air", "awq-4bit-g128"),  # 10,944 in its first layer alone
        ("qwen3.6-35b-a3b", "awq-4bit-g128"),  # a gate of one output in each
        ("llama-3.1-8b", "awq-4bit-g128"),
    ],
)
def test_awq_is_in_groups_that_divide_the_model(name, form):
    plan = named(name).parts[0].blueprint
    asked = scheme("awq-4bit-g128")
    assert asked.fitted is not None
    assert asked.fitted(plan).name == form
    assert total(plan, form) > 0


def test_whether_groups_divide_is_found_once_for_a_model(monkeypatch):
    """A search asks in one format again and again."""
    asked = []

    def divides(*facts):
        asked.append(facts)
        return True

    monkeypatch.setattr(integers, "_divides", divides)
    plan = replace(named("qwen3-0.6b").parts[0].blueprint)  # of which nothing is known yet
    for _ in range(3):
        assert scheme("awq-4bit-g128").fitted(plan).name == "awq-4bit-g128"
    assert asked == [(plan, 4, 128)]


@pytest.mark.slow
def test_awq_leaves_what_it_cannot_hold():
    """A gate of one output fills no word; the same of a linear beside it that does."""
    found = packed(named("qwen3.6-35b-a3b").parts[0].blueprint, "awq-4bit-g128")
    assert not any(name.endswith("shared_expert_gate.weight") for name in found)
    assert any(name.endswith("shared_expert.gate_proj.weight") for name in found)
