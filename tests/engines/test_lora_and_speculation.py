"""LoRA slots, what proposes tokens, shared prefixes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.answers import of_config
from tests.engines.serving import served
from tests.engines.spreads import SGLANG, VLLM, draft, lora, ranks, rules
from weighbridge.base.errors import UsageError
from weighbridge.engines.servers.lora_and_speculation import draft_layers, lookahead, shared_tokens
from weighbridge.engines.subject import subject
from weighbridge.engines.table import ENGINES
from weighbridge.models.catalogue import find as of_catalogue
from weighbridge.workload import Infer


def slots(name, *, count=1, rank=16, r=VLLM, **sizes):
    subject = served(name)
    return [
        lora(subject, device, slots=count, lora_rank=rank, rules=r, **sizes)[0].bytes.expected
        for device in ranks(subject, rules=r, **sizes)
    ]


def test_adapters_of_all_linear_layers():
    """Qwen2.5-0.5B: 549,888 parameters a rank (AgileRL's memory rig, all-linear), in 16 bits."""
    assert slots("qwen2.5-0.5b", rank=64) == [549_888 * 64 * 2]


def test_adapters_of_embedding_and_head():
    """Llama 3 8B by hand: 32 layers of q, k, v, o, gate, up, down; embedding and head whole."""
    layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14_336)
    table = 128_256 + 4096
    assert slots("llama-3-8b", count=4) == [4 * 16 * 2 * (32 * layer + 2 * table)]
    assert slots("llama-3-8b", count=4, r=SGLANG) == [4 * 16 * 2 * 32 * layer]
    old = rules("vllm", (0, 11))
    extra = 4 * 16 * 2 * 2 * 256
    assert slots("llama-3-8b", count=4, r=old)[0] - slots("llama-3-8b", count=4)[0] == extra


def test_adapters_of_experts():
    """Mixtral: every expert has its own; router, attention, and 32,000 words twice."""
    expert = 8 * 3 * (4096 + 14_336)
    layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 8) + expert
    whole = 16 * 2 * (32 * layer + 2 * (32_000 + 4096))
    assert slots("mixtral-8x7b") == [whole]


def test_adapters_over_ranks():
    """A stays whole where outputs are split, B where inputs are: Llama 3 8B over two."""
    layer = (4096 + 2048) * 2 + 2 * (4096 + 512) + 3 * (4096 + 7168)
    assert slots("llama-3-8b", tensor=2) == [16 * 2 * (32 * layer + 2 * (128_256 + 4096))] * 2


def test_a_rank_that_vllm_refuses():
    with pytest.raises(UsageError, match="vLLM takes 1, 8, 16, 32"):
        slots("llama-3-8b", rank=24)
    assert slots("llama-3-8b", rank=24, r=SGLANG)


def test_layers_for_multi_token_prediction():
    """DeepSeek-V3's module has 11.5 B parameters that are no other's (its README_WEIGHTS); in FP8
    but for the matrix before it, 103 M, in 16 bits, and the 17 M that decoding unpacks."""
    found = draft(served("deepseek-v3"), method="mtp", tokens=1)
    assert found[0].bytes.expected == pytest.approx(11.5e9 + 0.103e9 + 0.034e9, rel=0.015)
    eighth = draft(served("deepseek-v3"), method="mtp", tokens=1, tensor=8)
    assert found[0].bytes.expected / 8 < eighth[0].bytes.expected < found[0].bytes.expected / 6
    assert len(draft_layers(served("deepseek-v3"), "mtp")) == 1
    with pytest.raises(UsageError, match="no layers for multi-token prediction"):
        draft(served("kimi-k2"), method="mtp", tokens=1)  # its config says 0
    assert draft(served("llama-3-8b"), method="mtp", tokens=1) == ()
    assert draft_layers(served("llama-3-8b"), "mtp") == ()


def predicted(name, **sizes):
    return draft(served(name), method="mtp", tokens=1, **sizes)[0].bytes.expected


def packed_draft(**config):
    """Bytes of the layer that predicts, of Qwen3.6 27B as a config packs it."""
    raw = {**of_catalogue("qwen3.6-27b").config, "quantization_config": config}
    found = subject(of_config(raw), Infer(), ENGINES["vllm"], (0, 33))
    return draft(found, method="mtp", tokens=1)[0].bytes.expected


NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (NVFP4, False),
        (NVFP4 | {"ignore": ["lm_head"]}, False),
        (NVFP4 | {"ignore": ["mtp*"]}, True),
        (NVFP4 | {"ignore": ["mtp.layers.0*"]}, True),
        (NVFP4 | {"ignore": ["re:.*mtp.*"]}, True),
        (NVFP4 | {"exclude_modules": ["model.layers.64*"]}, True),
        ({"quant_method": "fp8", "modules_to_not_convert": ["mtp.layers.0"]}, True),
        ({"quant_method": "fp8", "ignore": ["mtp*"]}, False),
        (
            NVFP4
            | {"quant_algo": "MIXED_PRECISION"}
            | {"quantized_layers": {"model.layers.63.mlp": {"quant_algo": "NVFP4"}}},
            True,
        ),
    ],
)
def test_layers_that_predict_are_packed_as_the_config_says_of_them(config, left):
    """nvidia/Qwen3.6-27B-NVFP4 ignores mtp*: they are as large as without quantization, 0.791 GiB
    (a 5090 had 0.456 less for blocks than with packed ones, and died of it)."""
    plain = predicted("qwen3.6-27b")
    assert plain == pytest.approx(0.791 * 2**30, rel=1e-3)
    assert (packed_draft(**config) == plain) is left
    assert packed_draft(**config) <= plain


def test_layers_that_no_config_counts_are_those_of_the_class():
    """ERNIE's is Llama's layer with its dense feed-forward, and Qwen3-Next's attends and has 512
    experts and a shared one; each with two matrices D x D (vllm 0.33 ernie_mtp.py,
    qwen3_next_mtp.py)."""
    attention, dense = 2560 * (20 + 20 + 4 + 4) * 128, 3 * 2560 * 12_288
    assert predicted("ernie-4.5-21b-a3b") == 2 * (attention + dense + 2 * 2560 + 2 * 2560**2)
    routed, shared = (512 + 1) * 3 * 2048 * 512, 2048 + 512 * 2048
    attention = 2048 * (2 * 16 + 2 + 2 + 16) * 256 + 2 * 256
    layer = attention + routed + shared + 2 * 2048
    assert predicted("qwen3-next-80b-a3b") == 2 * (layer + 2 * 2048**2)
    (one,) = draft_layers(served("qwen3-next-80b-a3b"), "mtp")
    assert type(one.mixers[0]).__name__ == "Attention"


@pytest.mark.slow
def test_deepseek_v4_predicts_with_its_window_alone():
    """num_nextn_predict_layers is 1, and compress_ratios ends with 0 for it."""
    (layer,) = draft_layers(served("deepseek-v4-flash"), "mtp")
    assert layer.mixers[0].rate == 1
    whole = sum(t.nbytes for t in ranks(served("deepseek-v4-flash"))[0].tensors)
    assert whole / 46 < predicted("deepseek-v4-flash") < whole / 42  # of 43 layers


def eagle3(**more):
    raw = {"model_type": "llama", "architectures": ["LlamaForCausalLMEagle3"]}
    raw |= {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 1}
    raw |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256}
    return of_config(raw | {"draft_vocab_size": 32_000, "torch_dtype": "float16"} | more)


def parameters(model):
    return sum(p.numel for p in model.parts[0].blueprint.counted)


def test_a_head_of_eagle_3_by_hand():
    """yuhuili/EAGLE3-LLaMA3.1-Instruct-8B: its file is 850 MB, without the embedding. Queries, keys
    and values read the embedding too; three hidden states are brought together."""
    attention = (32 + 8 + 8) * 128 * 2 * 4096 + 4096**2
    alone = attention + 3 * 4096 * 14_336 + 4 * 4096 + 3 * 4096**2 + 32_000 * 4096
    assert alone * 2 == pytest.approx(850e6, rel=0.001)
    assert parameters(eagle3()) == alone + 128_256 * 4096
    for cls in ("Eagle3LlamaForCausalLM", "Eagle3Qwen3ForCausalLM"):
        assert parameters(eagle3(architectures=[cls])) == parameters(eagle3())
    two = eagle3(num_hidden_layers=2)  # the second reads the first alone
    layer = (32 + 8 + 8) * 128 * 4096 + 4096**2 + 3 * 4096 * 14_336 + 2 * 4096
    assert parameters(two) - parameters(eagle3()) == layer


@pytest.mark.parametrize(
    ("more", "read"),
    [
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 11]}}, 2 * 4096),
        ({"num_aux_hidden_states": 4}, 4 * 4096),
        ({"target_hidden_size": 5120}, 3 * 5120),
        ({"eagle_config": {"use_aux_hidden_state": False}}, 0),
    ],
)
def test_hidden_states_that_a_head_of_eagle_3_reads(more, read):
    assert parameters(eagle3(**more)) - parameters(eagle3()) == (read - 3 * 4096) * 4096


def test_norms_of_the_hidden_states_and_the_embedding_of_the_model():
    normed = parameters(eagle3(fc_norm=True)) - parameters(eagle3())
    assert normed == 3 * 4096
    kind = ENGINES["vllm"]
    head = subject(eagle3(), Infer(), kind, kind.newest)
    target = replace(served("llama-3.1-8b"), draft=head)
    shared = draft(target, method="eagle3", tokens=3)[0].bytes.expected
    table = 8192 * 128  # of positions
    assert shared == 2 * (parameters(eagle3()) - 128_256 * 4096 + table)
    assert len(draft_layers(target, "eagle3")) == 1


def test_qwen_predicts_with_full_attention():
    """The last layers but one are delta nets; the predicting one attends."""
    (layer,) = draft_layers(served("qwen3.5-27b"), "mtp")
    assert type(layer.mixers[0]).__name__ == "Attention"


def test_a_draft_model():
    target = replace(served("qwen3-8b"), draft=served("qwen3-0.6b"))
    alone = sum(t.nbytes for t in ranks(served("qwen3-0.6b"))[0].tensors)
    assert draft(target, method="draft", tokens=4)[0].bytes.expected == alone
    assert draft_layers(target, "draft") == served("qwen3-0.6b").layers
    shared = draft(target, method="eagle", tokens=4)[0].bytes.expected
    assert alone - shared == 151_936 * 1024 * 2
    assert draft(target, method="ngram", tokens=4) == ()
    assert draft_layers(target, "ngram") == ()


def test_slots_ahead():
    assert [lookahead(m, 5) for m in (None, "ngram", "eagle", "mtp", "draft")] == [0, 0, 5, 5, 5]


def test_a_shared_prefix_by_hand():
    """1,000 tokens in blocks of 16 are 62 whole blocks; seven of eight requests save them."""
    assert shared_tokens(1000, 8, 16) == 7 * 992
    assert shared_tokens(1000, 8, 1) == 7000
    assert shared_tokens(15, 8, 16) == 0


@pytest.mark.slow
@given(st.integers(0, 10**5), st.integers(0, 500), st.integers(1, 128))
def test_a_prefix_saves_less_than_it_is(prefix, requests, block):
    saved = shared_tokens(prefix, requests, block)
    assert 0 <= saved <= prefix * max(0, requests - 1)
    assert shared_tokens(prefix, requests + 1, block) >= saved


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(("qwen2.5-0.5b", "llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite")),
    st.integers(1, 8),
    st.sampled_from((8, 16, 64)),
    st.sampled_from((1, 2)),
)
def test_slots_are_linear_and_ranks_hold_the_whole(name, count, rank, tensor):
    one = slots(name, rank=8)[0]
    found = slots(name, count=count, rank=rank, tensor=tensor)
    assert sum(found) >= one * count * rank // 8
    assert slots(name, count=count, rank=rank)[0] == one * count * rank // 8
