"""What each device holds: against published logs, by hand, and as laws."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import work
from tests.cases import all_of
from tests.engines.answers import of_config
from tests.engines.serving import served
from tests.engines.spreads import SGLANG, VLLM, draft, ranks, rules, sglang, vllm
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.units import GIB
from weighbridge.engines.parallel.cuts import WAY_OF, Cut, CutPart, CutUnit, fits, in_blocks
from weighbridge.engines.subject import subject
from weighbridge.engines.table import ENGINES
from weighbridge.memory.components.device import replay
from weighbridge.models.arch.roles import role
from weighbridge.models.quantization.floats import block_of
from weighbridge.models.quantization.schemes import scheme, stored
from weighbridge.models.tensors import CheckpointTensor
from weighbridge.workload import Infer


def held(rank, name=""):
    return sum(t.nbytes for t in rank.tensors if name in t.module)


def weights(rank):
    return sum(t.nbytes for t in rank.tensors if t.component == "weights")


def allocated(rank):
    return replay(rank.tensors, lambda pairs: (t for _, t in pairs)).allocated


# "Model loading took N GiB", vLLM on an H100 80 GB: jgchn/llm-d-planner (0.19; 0.11 for the last
# five), vllm-project/vllm issues (0.6.5), printed to 0.01 GiB. GPTQ: the w4a16 checkpoint loads as
# gptq_marlin; Kimi-Dev-72B has the shapes of Qwen2.5-72B.
LOGGED = [
    ("codellama-7b", None, 1, (0, 19), 12.56),
    ("deepseek-v2-lite", None, 1, (0, 19), 29.43 - 0.125),  # less a buffer of kernels
    ("gemma-2-2b", None, 1, (0, 19), 4.90),
    ("gemma-2-9b", None, 1, (0, 19), 17.22),
    ("gemma-2-27b", None, 1, (0, 19), 50.72),
    ("gemma-3-4b", None, 1, (0, 19), 8.58),
    ("gemma-3-12b", None, 1, (0, 19), 23.31),
    ("gemma-3-27b", None, 1, (0, 19), 51.45),
    ("gemma-7b", None, 1, (0, 19), 15.91),
    ("granite-3.3-8b", None, 1, (0, 19), 15.25),
    ("llama-4-scout", None, 4, (0, 19), 53.12),
    ("phi-2", None, 1, (0, 19), 5.19),
    ("phi-4", None, 1, (0, 19), 27.39),
    ("mixtral-8x7b", None, 2, (0, 19), 43.51),
    ("qwen2.5-72b", None, 2, (0, 19), 67.82),
    ("qwen2.5-72b", None, 4, (0, 19), 34.01),
    ("gpt-oss-20b", None, 1, (0, 19), 13.64),
    ("gpt-oss-20b", None, 2, (0, 19), 7.01),
    ("qwen1.5-moe-a2.7b", None, 1, (0, 19), 26.67),
    ("qwen3-30b-a3b", None, 1, (0, 19), 56.88),
    ("qwen3-8b", None, 1, (0, 19), 15.27),
    ("llama-3.1-8b", "gptq-4bit-g128", 1, (0, 19), 5.38),
    ("llama-3.1-8b", "w8a8-int8", 1, (0, 19), 8.49),
    ("qwen2.5-7b", "w8a8-int8", 1, (0, 19), 8.14),
    ("qwen2.5-7b", "w8a8-fp8", 1, (0, 19), 8.14),
    ("llama-3.1-70b", "w8a8-int8", 1, (0, 6), 67.7229),
    ("llama-3-8b", None, 1, (0, 6), 14.96),
    ("llama-3-8b", None, 2, (0, 6), 7.48),
    ("gpt-oss-20b", None, 1, (0, 11), 13.47),
    ("qwen3-0.6b", None, 1, (0, 11), 1.12),
    ("qwen3-32b", None, 1, (0, 11), 61.03),
    ("qwen3-32b", None, 2, (0, 11), 30.59),
]


@pytest.mark.slow
@all_of(("name", "quantization", "tensor", "version", "gib"), LOGGED)
def test_weights_as_vllm_logged_them(name, quantization, tensor, version, gib):
    """The log counts what torch has allocated: whole blocks."""
    found = ranks(
        served(name, quantization=quantization), tensor=tensor, rules=rules("vllm", version)
    )
    assert allocated(found[0]) / GIB == pytest.approx(gib, rel=0.004, abs=0.006)


KIMI_VL = {
    "architectures": ["KimiVLForConditionalGeneration"],
    "model_type": "kimi_vl",
    "torch_dtype": "bfloat16",
    "vocab_size": 163840,
    "text_config": {
        "model_type": "deepseek_v3",
        "torch_dtype": "bfloat16",
        "attention_bias": False,
        "first_k_dense_replace": 1,
        "hidden_size": 2048,
        "intermediate_size": 11264,
        "kv_lora_rank": 512,
        "max_position_embeddings": 131072,
        "moe_intermediate_size": 1408,
        "moe_layer_freq": 1,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_attention_heads": 16,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "tie_word_embeddings": False,
        "v_head_dim": 128,
        "vocab_size": 163840,
    },
    "vision_config": {
        "model_type": "moonvit",
        "patch_size": 14,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "merge_kernel_size": [2, 2],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(("tensor", "gib"), [(1, 30.74), (2, 15.53)])
def test_a_tower_is_split_as_well(tmp_path, tensor, gib):
    """Kimi-VL-A3B in the same logs (0.19)."""
    (tmp_path / "config.json").write_text(json.dumps(KIMI_VL))
    found = ranks(served(str(tmp_path)), tensor=tensor, rules=rules("vllm", (0, 19)))
    assert allocated(found[0]) / GIB == pytest.approx(gib, rel=0.01)


# By hand


def test_key_value_heads_are_repeated():
    """Llama 3 8B, 8 key-value heads of 128: a rank of 16 has 2 query heads and one of the others,
    twice: (256 + 2 x 128) x 4096 x 2 bytes."""
    rank = ranks(served("llama-3-8b"), tensor=16)[0]
    assert held(rank, "layers.0.self_attn.qkv_proj") == (256 + 2 * 128) * 4096 * 2
    assert held(rank, "layers.0.self_attn.o_proj") == 4096 * 256 * 2
    assert held(rank, "layers.0.mlp.gate_up_proj") == 2 * 896 * 4096 * 2


def test_vocabulary_is_padded_on_one_device_too():
    """GPT-2's 50,257 rows become 50,304, a multiple of 64. Its positions do not."""
    rank = ranks(served("gpt2"))[0]
    assert held(rank, "wte") == 50_304 * 768 * 4 // 2
    assert held(rank, "wpe") == 1024 * 768 * 2


def test_vocabulary_of_sglang_grows_until_it_divides():
    """Five ranks of GPT-2 large do not divide 50,304 rows, but 50,560: 158 x 64 each."""
    with pytest.raises(UsageError, match=r"50,257 rows .* work: 1, 2, 4"):
        ranks(served("gpt2-large"), tensor=5)
    rank = ranks(served("gpt2-large"), tensor=5, rules=SGLANG)[0]
    assert held(rank, "wte") == 158 * 64 * 1280 * 2


@pytest.mark.slow
def test_latents_are_on_every_rank():
    """DeepSeek-V3: what makes latents is whole, what expands them is split."""
    one, eight = (ranks(served("deepseek-v3"), tensor=n)[0] for n in (1, 8))
    path = "layers.5.self_attn"
    assert held(eight, f"{path}.fused_qkv_a_proj") == held(one, f"{path}.fused_qkv_a_proj")
    assert held(eight, f"{path}.o_proj") * 8 == pytest.approx(held(one, f"{path}.o_proj"), abs=8)
    assert held(eight, "layers.5.mlp.gate") == held(one, "layers.5.mlp.gate")


def test_experts_by_number():
    """256 experts over 16 ranks: 16 each, of 3 x 7168 x 2048 bytes and a scale of 4 a block."""
    found = ranks(served("deepseek-v3"), tensor=8, data=2, expert_parallel=True)
    one = 3 * 7168 * 2048 + 3 * 56 * 16 * 4
    assert held(found[0], "layers.5.mlp.experts.") == 16 * one
    assert len(found) == 16


@pytest.mark.slow
def test_shared_experts_where_tokens_are_shared_out():
    """DeepSeek-V3: split over eight ranks, but whole once replicas route to each other's experts.
    GLM-4.5 splits them all the same; SGLang's replicas are apart."""
    path = "layers.5.mlp.shared_experts.gate_up_proj"
    subject = served("deepseek-v3")
    one = held(ranks(subject)[0], path)
    assert held(ranks(subject, tensor=8, expert_parallel=True)[0], path) == one // 8
    over = {"tensor": 8, "data": 2, "expert_parallel": True}
    assert held(ranks(subject, **over)[0], path) == one
    assert held(ranks(subject, rules=SGLANG, **over)[0], path) == one // 8
    glm = served("glm-4.5")
    assert held(ranks(glm, **over)[0], path) * 8 == held(ranks(glm)[0], path)


def test_uneven_experts():
    """64 over 3: 22, 21, 21. SGLang refuses a remainder."""
    found = ranks(served("olmoe-1b-7b"), data=3, expert_parallel=True)
    sizes = [held(r, "layers.0.mlp.experts.") // (3 * 2048 * 1024 * 2) for r in found]
    assert sizes == [22, 21, 21]
    with pytest.raises(UsageError, match="60 experts cannot be shared evenly by 16"):
        ranks(served("qwen1.5-moe-a2.7b"), tensor=16, expert_parallel=True, rules=SGLANG)


def test_experts_are_shared_by_vllm_replicas_alone():
    subject = served("mixtral-8x7b")
    replicas, single = ranks(subject, tensor=2, data=2), ranks(subject, tensor=2)
    assert held(replicas[0], "experts") * 2 == held(single[0], "experts")
    ours = ranks(subject, tensor=2, data=2, rules=SGLANG)
    assert held(ours[0], "experts") == held(single[0], "experts")


def test_mxfp4_of_each_card():
    """gpt-oss-20b, 2,880 wide. Marlin: 2,944 columns and 3,072 hidden, so 1.0903 times as much of
    values and scales. Hopper in 0.33: nothing but the rows of scales padded to 256."""
    stored = 24 * 32 * 3 * 2880**2 * 17 // 32
    bias = 24 * 32 * (5760 + 2880) * 2
    subject = served("gpt-oss-20b")
    marlin = held(ranks(subject, capability=8)[0], "experts")
    padded = 24 * 32 * (2 * 2944 + 3072) * 2
    assert marlin == pytest.approx(stored * 3072 * 2944 / 2880**2 + padded, rel=1e-6)
    hopper = held(ranks(subject, capability=9)[0], "experts")
    scales = 24 * 32 * (5888 * 90 + 3072 * 90)
    assert hopper == 24 * 32 * 3 * 2880**2 // 2 + scales + 2 * bias


@pytest.mark.slow
def test_pipeline_stages():
    """80 layers over three stages: vLLM gives the last one fewer, SGLang more."""
    assert vllm.bounds(80, 3) == (0, 27, 54, 80)
    assert sglang.bounds(80, 3) == (0, 26, 53, 80)
    assert vllm.bounds(61, 4) == (0, 15, 30, 46, 61)
    first, middle, last = ranks(served("llama-3-70b"), pipeline=3)
    assert [len(r.layers) for r in (first, middle, last)] == [27, 27, 26]
    assert (first.first, first.last, last.first, last.last) == (True, False, False, True)
    assert [r.numbers for r in (first, last)] == [range(27), range(54, 80)]
    assert held(first, "embed_tokens") == held(last, "lm_head") == 128_256 * 8192 * 2
    assert held(middle, "embed") == held(middle, "lm_head") == held(first, "lm_head") == 0


def test_a_given_partition():
    found = ranks(served("llama-3-70b"), pipeline=2, partition=(30, 50))
    assert [len(r.layers) for r in found] == [30, 50]
    with pytest.raises(
        UsageError, match=r"30,49: .* these are 79 in 2; 80 layers in 2 stages .* are 40,40"
    ):
        ranks(served("llama-3-70b"), pipeline=2, partition=(30, 49))


def test_a_tied_head_is_a_second_copy_on_the_last_stage():
    """Qwen2.5 3B ties; Qwen3 30B A3B has both on every stage in vLLM."""
    subject = served("qwen2.5-3b")
    alone = ranks(subject)[0]
    first, last = ranks(subject, pipeline=2)
    table = 151_936 * 2048 * 2
    assert held(alone, "embed_tokens") == held(first, "embed_tokens") == table
    assert held(alone, "lm_head") == 0
    assert held(last, "lm_head") == table
    for rank in ranks(served("qwen3-30b-a3b"), pipeline=3):
        assert held(rank, "embed_tokens") == held(rank, "lm_head") == table


def test_groups_of_mamba_are_split_or_repeated():
    """Mamba-Codestral: 8 groups over 16 ranks, one each: z and x 2 x 512, B and C 2 x 128, dt 8."""
    subject = served("mamba-codestral-7b")
    rank = ranks(subject, tensor=8)[0]
    assert held(rank, "layers.0.mixer.in_proj") == (2 * 1024 + 2 * 128 + 16) * 4096 * 2


def test_delta_nets_are_split_by_heads():
    """Qwen3-Next: 12,288 outputs of q, k, v, z over four ranks."""
    rank = ranks(served("qwen3-next-80b-a3b"), tensor=4)[0]
    assert held(rank, "layers.0.linear_attn.in_proj_qkvz") == 12_288 // 4 * 2048 * 2


def test_the_bias_of_a_row_is_whole():
    one, four = (ranks(served("phi-2"), tensor=n)[0] for n in (1, 4))
    dense = "layers.0.self_attn.dense"
    assert held(four, dense) - 2560 * 2 == (held(one, dense) - 2560 * 2) // 4


def test_scales_follow_their_side():
    """GPTQ of Llama 3.1 8B's down projection over two ranks: all is halved but nothing is lost;
    FP8's scale of the whole is on both."""
    down = "layers.0.mlp.down_proj"
    one, two = (
        ranks(served("llama-3.1-8b", quantization="gptq-4bit-g128"), tensor=n)[0] for n in (1, 2)
    )
    assert held(two, down) * 2 == held(one, down)
    one, two = (
        ranks(served("llama-3.1-8b", quantization="fp8-tensor"), tensor=n)[0] for n in (1, 2)
    )
    assert held(two, down) * 2 > held(one, down) >= 2 * held(two, down) - 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("llama-3.2-1b", "gptq-4bit-g128"),
        ("llama-3.2-1b", "awq-4bit-g128"),
        ("llama-3.2-1b", "fp8-tensor"),
        ("llama-3.2-1b", "w4a16-g128"),
        ("llama-3.2-1b", "nf4"),
        ("qwen3-30b-a3b", "fp8-block"),
        ("gpt-oss-20b", "mxfp4"),
    ],
)
@pytest.mark.parametrize("tensor", [1, 2])
def test_a_stored_checkpoint_is_shared_as_its_format_is(name, form, tensor):
    """The same tensors, once by rule and once by the names in a file's header."""
    version = "0.27" if form == "nf4" else None  # the last that reads it
    by_rule = served(name, quantization=form, engine_version=version)
    part = by_rule.part
    found = stored(part.blueprint, scheme(form), dtype=by_rule.choice.dtype, transformers=4)
    tensors = tuple(CheckpointTensor(t.name, t.dtype, t.shape, t.nbytes) for t in found)
    part = replace(part, stored=tensors)
    choice = replace(by_rule.choice, as_stored=True)
    by_file = replace(
        by_rule, model=replace(by_rule.model, parts=(part,)), choices={"": choice}, choice=choice
    )
    ours, theirs = (ranks(s, tensor=tensor, capability=8)[0] for s in (by_rule, by_file))
    assert held(ours) == pytest.approx(held(theirs), rel=1e-4)
    for layer in ("layers.0.self_attn.qkv_proj", "layers.0.mlp"):
        assert held(ours, layer) == pytest.approx(held(theirs, layer), rel=1e-3)


def test_a_packed_projection_is_unpacked_for_decoding():
    """DeepSeek-V3 in FP8: the up-projection again in 16 bits, a share of it. SGLang always."""
    eight = ranks(served("deepseek-v3"), tensor=8)[0]
    up = 128 * 256 * 512
    assert held(eight, "layers.0.self_attn.kv_b_proj") == (up * 3 + 4 * 256 * 4) // 8
    lite = served("deepseek-v2-lite")
    up = 16 * 256 * 512 * 2
    assert held(ranks(lite)[0], "layers.0.self_attn.kv_b_proj") == up
    assert held(ranks(lite, rules=SGLANG)[0], "layers.0.self_attn.kv_b_proj") == 2 * up


def test_tables_of_positions():
    """Llama 3.1: 131,072 x 128 in 16 bits, in SGLang in 32; Gemma 3: eight times as many rows
    where attention is full; DeepSeek-V3: YaRN's 163,840 x 64; Qwen-VL four times."""
    for name, nbytes in [
        ("llama-3.1-8b", 131_072 * 128 * 2),
        ("gemma-3-27b", (8 + 1) * 131_072 * 128 * 2),
        ("deepseek-v3", 163_840 * 64 * 2),
        ("qwen2.5-vl-7b", 4 * 128_000 * 128 * 2),
        ("gpt2", 0),
    ]:
        assert held(ranks(served(name))[0], "rotary_emb") == nbytes
    assert held(ranks(served("llama-3.1-8b"), rules=SGLANG)[0], "rotary_emb") == 131_072 * 128 * 4


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("qwen2.5-7b", 3, "28 attention heads cannot be split evenly; sizes that work: 1, 2, 4"),
        ("falcon-7b", 2, "71 attention heads"),
        ("llama-3-8b", 12, "32 attention heads"),
        ("qwen1.5-moe-a2.7b", 3, "attention heads"),
    ],
)
def test_sizes_that_do_not_divide(name, tensor, message):
    with pytest.raises(UsageError, match=message):
        ranks(served(name), tensor=tensor)


@pytest.mark.slow
@pytest.mark.parametrize("rules", [VLLM, SGLANG], ids=("vllm", "sglang"))
@pytest.mark.parametrize(
    ("name", "tensor", "sizes"),
    [
        # 192 and 64 columns a rank: "is not divisible by weight quantization block_n = 128"
        ("qwen3-235b-a22b-fp8", 8, " 1, 2, 3, 4, 6, 12; or share"),
        ("deepseek-v3", 32, " 1, 2, 4, 8, 16$"),
    ],
)
def test_a_share_of_fp8_is_whole_blocks(name, tensor, sizes, rules):
    with pytest.raises(UsageError, match=f"in blocks of 128.*{sizes}"):
        ranks(served(name), tensor=tensor, rules=rules)
    assert ranks(served(name), tensor=tensor // 2, rules=rules)


@pytest.mark.slow
def test_shared_experts_are_filled_up_to_whole_blocks():
    """DeepSeek-V4-Pro's have 24 blocks of 128, two for each of 16 ranks in vLLM since 0.24; before,
    and in SGLang, "input_size_per_partition = 192 is not divisible" (github.com/vllm-project/vllm
    issue 42384, github.com/sgl-project/sglang pull request 23911)."""
    pro, path = served("deepseek-v4-pro"), "layers.5.ffn.shared_experts"
    for by in (rules("vllm", (0, 23)), SGLANG):
        with pytest.raises(UsageError, match=r"3,072 inputs of w2.*sizes that work: 1, 2, 4, 8"):
            ranks(pro, tensor=16, rules=by)
    one = held(ranks(pro)[0], path)
    for by in (rules("vllm", (0, 24)), VLLM):
        assert held(ranks(pro, tensor=16, rules=by)[0], path) == one // 12
        assert held(ranks(pro, tensor=8, rules=by)[0], path) == one // 8
    assert fits(CutUnit(24, "blocks", "fill"), 16, grows=False)


def side_by_side():
    """Two layers of MiMo-V2-Flash, whose keys have heads of 192: four of them, and eight in the
    layer with a window."""
    raw = {"model_type": "mimo_v2_flash", "num_hidden_layers": 2, "hybrid_layer_pattern": [0, 1]}
    raw |= {"moe_layer_freq": [0, 1], "hidden_size": 4096, "num_attention_heads": 64}
    raw |= {"num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "vocab_size": 640}
    raw |= {"swa_num_attention_heads": 64, "swa_num_key_value_heads": 8, "swa_head_dim": 192}
    raw |= {"swa_v_head_dim": 128, "intermediate_size": 16_384, "moe_intermediate_size": 2048}
    raw |= {"n_routed_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 4096}
    raw["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    kind = ENGINES["vllm"]
    return subject(of_config(raw), Infer(), kind, kind.newest)


def test_matrices_side_by_side_end_within_a_block():
    """vllm 0.14 model_executor/layers/linear.py (_maybe_allow_fp8_block_shape_mismatch): a rank of
    eight has 192 rows of keys. SGLang's class skips the check. What is alone still has whole
    blocks: 64 inputs of the dense layer's last matrix at 256 ranks."""
    mimo = side_by_side()
    with pytest.raises(UsageError, match=r"4 key-value heads, rows in blocks.*work: 1, 2$"):
        ranks(mimo, tensor=4, rules=rules("vllm", (0, 13)))
    rows = (16 + 16) * 192 + (1 + 2) * (192 + 128)  # of both layers, on one of four
    for by in (rules("vllm", (0, 14)), VLLM, SGLANG):
        assert held(ranks(mimo, tensor=4, rules=by)[0], "qkv") == rows * 4096 + rows * 32 // 128 * 4
        assert ranks(mimo, tensor=8, rules=by)
    with pytest.raises(UsageError, match="2,048 columns of each expert, columns in blocks"):
        ranks(mimo, tensor=32)


@pytest.mark.parametrize("rules", [VLLM, SGLANG], ids=("vllm", "sglang"))
def test_numbers_a_head_are_in_no_blocks(rules):
    """Qwen3.5's in_proj_a and in_proj_b, 64 heads: modules_to_not_convert of published FP8
    configs. By the name of the format alone eight ranks share the rest."""
    s = served("qwen3.5-397b-a17b", quantization="fp8-block")
    one, eight = ranks(s, rules=rules)[0], ranks(s, tensor=8, rules=rules)[0]
    path = "layers.0.linear_attn.in_proj_ba"
    assert held(one, path) == 2 * 64 * 4096 * 2
    assert held(eight, path) == held(one, path) // 8
    assert held(one, "layers.0.mlp.shared_expert_gate") == 4096 * 2


def test_kimi_linear_is_split_by_heads():
    """A_log is [1, 1, heads, 1] and dt_bias a number a channel of a head: a quarter each."""
    raw = {"model_type": "kimi_linear", "num_hidden_layers": 2, "hidden_size": 64}
    raw |= {
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "kv_lora_rank": 16,
        "vocab_size": 512,
    }
    raw |= {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "intermediate_size": 64}
    raw |= {"num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32}
    raw |= {"linear_num_heads": 8, "linear_head_dim": 16, "num_shared_experts": 1}
    kind = ENGINES["sglang"]
    s = subject(of_config(raw), Infer(), kind, kind.newest)
    one, four = ranks(s, rules=SGLANG)[0], ranks(s, tensor=4, rules=SGLANG)[0]
    for name, numbers in (("A_log", 8), ("dt_bias", 8 * 16)):
        assert held(one, f"layers.0.self_attn.{name}") == numbers * 2
        assert held(four, f"layers.0.self_attn.{name}") == numbers * 2 // 4
    with pytest.raises(UsageError, match="8 attention heads"):
        ranks(s, tensor=3, rules=SGLANG)


@pytest.mark.slow
def test_blocks_are_no_matter_where_experts_are_whole():
    s = served("qwen3-235b-a22b-fp8")
    assert len(ranks(s, tensor=8, expert_parallel=True)) == 8
    assert len(ranks(served("qwen3-235b-a22b"), tensor=8)) == 8  # 16 bits have no blocks
    exchanged = {"tensor": 16, "groups": 16, "rules": SGLANG}
    assert ranks(served("deepseek-v4-pro"), **exchanged, expert_parallel=True)
    with pytest.raises(UsageError, match="3,072"):
        ranks(served("deepseek-v4-pro"), **exchanged)


GROUPS_OF = {"gptq": "gptq-4bit-g{}", "awq": "awq-4bit-g{}", "compressed": "w4a16-g{}"}


@pytest.mark.slow
@pytest.mark.parametrize("rules", [VLLM, SGLANG], ids=("vllm", "sglang"))
@pytest.mark.parametrize("form", GROUPS_OF.values(), ids=GROUPS_OF)
def test_a_share_of_packed_inputs_is_whole_groups(form, rules):
    """29,568 = 231 groups of 128: "The input size is not aligned with the quantized weight shape",
    github.com/QwenLM/Qwen3 issue 578; and one card reads whole groups alone, too."""
    s = served("qwen2.5-72b", quantization=form.format(128))
    assert len(ranks(s, tensor=1, rules=rules)) == 1
    with pytest.raises(UsageError, match=r"groups of 128.*sizes that work: 1; .*smaller groups"):
        ranks(s, tensor=2, rules=rules)
    assert ranks(served("qwen2.5-72b", quantization=form.format(32)), tensor=4, rules=rules)
    assert ranks(served("qwen2.5-72b"), tensor=8, rules=rules)


@pytest.mark.parametrize("form", ["gptq-4bit-g128", "w4a16-g128"])
def test_inputs_of_one_card_are_whole_groups_too(form):
    """Falcon's 4,544 are 35.5 groups."""
    with pytest.raises(UnsupportedError, match=r"4,544 inputs, and vllm reads .*groups of 128"):
        ranks(served("falcon-7b", quantization=form), tensor=1)
    assert ranks(served("falcon-7b", quantization=form.replace("128", "64")), tensor=1)
    assert ranks(served("falcon-7b", quantization="gptq-4bit"), tensor=1)  # a column is one group


@pytest.mark.slow
def test_experts_in_groups_are_read_in_smaller_ones():
    """768 columns over four ranks are 1.5 groups of 128; the kernels halve them, down to 32."""
    for form in ("gptq-4bit-g128", "awq-4bit-g128", "w4a16-g128"):
        assert ranks(served("qwen3-30b-a3b", quantization=form), tensor=4)
    with pytest.raises(UsageError, match="groups of 32"):
        ranks(served("qwen3-30b-a3b", quantization="gptq-4bit-g128"), tensor=16)
    assert ranks(served("qwen3-30b-a3b", quantization="w4a16-g128"), tensor=16)


def test_a_block_is_as_large_as_the_format_says():
    """12 heads of 64 and 2 of keys over four: 192 rows of queries each, 64 of keys."""
    assert block_of("fp8-block") == (128, 128)
    assert block_of("fp8-block-64x32") == (64, 32)
    assert block_of("fp8-tensor") is block_of("fp8-blockwise") is None
    heads, keys = CutUnit(12, "heads"), CutUnit(2, "keys", "repeat")
    made = Cut("out", (CutPart(768, heads), CutPart(128, keys)))
    for rows, able in ((64, [True, True]), (128, [False, False]), (192, [True, False])):
        found = list(in_blocks(made, (rows, 1)))
        assert [fits(u, 4, grows=True) for u in found] == able
        assert all(fits(u, 1, grows=True) for u in found)
    read = list(in_blocks(made._replace(side="in"), (1, 64)))
    assert [u.block for u in read] == [64, 64]
    assert "columns in groups of 64" in read[0].what
    assert not list(in_blocks(made, (1, 64)))  # outputs have scales of their own


def test_a_name_that_is_not_known():
    with pytest.raises(UnsupportedError, match=r"receptance\.weight: how several devices share it"):
        ranks(served("rwkv-4-430m"), tensor=2)


def test_no_device_and_too_many_stages():
    with pytest.raises(UsageError, match="at least 1"):
        ranks(served("llama-3-8b"), tensor=0)
    with pytest.raises(UsageError, match="the model has 32 layers"):
        ranks(served("llama-3-8b"), pipeline=33)


@all_of(
    ("name", "expected"),
    [
        ("model.layers.0.mlp.down_proj.weight", "row"),
        ("transformer.h.0.mlp.w2.weight", "column"),  # Qwen 1: w1 and w2 go up, c_proj down
        ("model.layers.0.feed_forward.w2.weight", "row"),
        ("encoder.layer.0.attention.output.dense.weight", "row"),
        ("encoder.layer.0.intermediate.dense.bias", "column"),
        ("vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight", "query"),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", "column"),
        ("model.layers.0.self_attn.indexer.wq_b.weight", "whole"),
        ("layers.25.linear.weight", "vocab"),  # Phi 1.5's own code
    ],
)
def test_names(name, expected):
    assert WAY_OF[role(name)] == expected


# Laws

NAMES = (
    "llama-3-8b",
    "qwen2.5-3b",
    "mixtral-8x7b",
    "deepseek-v2-lite",
    "gpt-oss-20b",
    "qwen3-next-80b-a3b",
    "gemma-3-4b",
    "nemotron-nano-12b-v2",
    "falcon-40b",
)
SIZES = st.sampled_from((1, 2, 4, 8))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(NAMES), SIZES, st.integers(1, 4), st.sampled_from((VLLM, SGLANG)))
def test_ranks_together_hold_at_least_the_whole(name, tensor, pipeline, r):
    subject = served(name)
    found = ranks(subject, tensor=tensor, pipeline=pipeline, rules=r)
    assert len(found) == tensor * pipeline
    whole = sum(t.nbytes * t.copies for t in subject.tensors if t.component == "weights")
    assert sum(map(weights, found)) >= whole
    assert sum(len(x.layers) for x in found) == tensor * len(subject.layers)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NAMES), SIZES, SIZES)
def test_more_ranks_hold_no_more_each(name, few, many):
    few, many = sorted((few, many))
    subject = served(name)
    assert held(ranks(subject, tensor=many)[0]) <= held(ranks(subject, tensor=few)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_device_holds_the_whole(name):
    """Up to the vocabulary's padding and MXFP4's."""
    subject = served(name)
    whole = sum(t.nbytes * t.copies for t in subject.tensors if t.component == "weights")
    assert weights(ranks(subject)[0]) == pytest.approx(whole, rel=0.006)


def test_equal_ranks_are_one_object():
    found = ranks(served("llama-3-8b"), tensor=4, data=2)
    assert len({id(r.tensors) for r in found}) == 1
    again = ranks(served("llama-3-8b"), tensor=4, data=2)
    assert again[0].tensors is found[0].tensors


def test_what_was_made_is_found_again():
    """90,000 experts are counted by kind: a second call walks over none of them."""
    subject = served("deepseek-v3")
    ranks(subject, tensor=8)
    assert work.calls_made(lambda: ranks(subject, tensor=8)) < 10_000, "the first made 123,674"


# Gemma: what engines hold beyond the checkpoint


@pytest.mark.slow
def test_values_that_equal_keys_are_held_apart():
    """Gemma 4 31B: 10 full layers of 4 key-value heads of 512, 5,376 wide, K once more as V."""
    found = served("gemma-4-31b")
    whole = sum(t.nbytes for t in found.tensors if t.component == "weights")
    for of_engine in (rules("vllm", (0, 33)), SGLANG):
        assert weights(ranks(found, rules=of_engine)[0]) - whole == 10 * 4 * 512 * 5376 * 2


SHARING = {
    "architectures": ["Gemma4ForCausalLM"],
    "model_type": "gemma4_text",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "num_kv_shared_layers": 2,
    "layer_types": [
        *("sliding_attention", "full_attention", "sliding_attention", "full_attention"),
    ],
    "sliding_window": 8,
    "vocab_size": 128,
    "vocab_size_per_layer_input": 128,
    "hidden_size_per_layer_input": 0,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


def test_layers_that_share_a_cache_have_room_for_keys_and_values():
    """Two layers by hand: 2 heads of 16 and of 32, 64 wide, K and V each. vLLM leaves them out
    since 0.30."""
    found = subject(of_config(SHARING), Infer(), ENGINES["vllm"], (0, 33))
    more = 2 * (2 * 16 + 2 * 32) * 64 * 2
    old, new, sglang = (
        weights(ranks(found, rules=r)[0])
        for r in (rules("vllm", (0, 24)), rules("vllm", (0, 33)), SGLANG)
    )
    assert old - new == sglang - new == more


def test_gemma_embeds_whole_in_sglang_alone():
    found = served("gemma-3-27b")
    rows = 262_208 * 5376 * 2
    assert held(ranks(found, tensor=2, rules=SGLANG)[1], "embed_tokens") == rows
    assert (
        held(ranks(found, tensor=2, rules=rules("vllm", (0, 33)))[1], "embed_tokens") == rows // 2
    )


def test_a_draft_is_spread_as_the_model_is():
    """DeepSeek-V3's own layer: its experts are shared by replicas in vLLM."""
    found = served("deepseek-v3")
    spread = {"tensor": 8, "expert_parallel": True}
    one, two = (
        draft(found, method="mtp", tokens=1, **spread, data=n)[0].bytes.expected for n in (1, 2)
    )
    assert two < 0.65 * one


def test_a_role_that_the_class_says_is_shared_out():
    """EXAONE 3's c_fc_0 and c_fc_1 are columns, though no table has their names: all but the
    norms (9 x 2,048 numbers) is cut in two."""
    config = {
        "model_type": "exaone",
        "architectures": ["ExaoneForCausalLM"],
        "vocab_size": 1024,
        "hidden_size": 2048,
        "intermediate_size": 7168,
        "num_layers": 4,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "activation_function": "silu",
        "torch_dtype": "bfloat16",
    }
    found = subject(of_config(config), Infer(), ENGINES["vllm"], (0, 33))
    whole, half = (weights(ranks(found, tensor=n)[0]) for n in (1, 2))
    assert 2 * half - whole == 2 * 9 * 2048


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("whisper-large-v3-turbo", 808_878_080),  # 809 M of its card: 32 layers before 4
        ("whisper-large-v3", 1_543_490_560),  # 32 before 32
    ],
)
def test_an_encoder_has_all_its_layers_however_many_its_decoder_has(model, parameters):
    (rank,) = ranks(served(model))
    assert sum(t.nbytes for t in rank.tensors) == pytest.approx(2 * parameters, rel=0.005)
