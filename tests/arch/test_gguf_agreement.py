"""Metadata of a GGUF file against its own tensors: what llama.cpp would refuse is refused."""

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import FLOAT32, GGML_BY_NAME
from weighbridge.base.errors import BadFileError
from weighbridge.models.arch.gguf_agreement import check
from weighbridge.models.formats.gguf import Array
from weighbridge.models.tensors import CheckpointTensor

FACTS = {
    "block_count": 2,
    "context_length": 4096,
    "embedding_length": 256,
    "feed_forward_length": 512,
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
    "attention.key_length": 32,
    "attention.value_length": 32,
    "rope.dimension_count": 32,
    "vocab_size": 1000,
}
EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64}
BLOCK = {  # in ggml's order
    "attn_q": (256, 256),
    "attn_k": (256, 64),
    "attn_v": (256, 64),
    "attn_output": (256, 256),
    "ffn_gate": (256, 512),
    "ffn_up": (256, 512),
    "ffn_down": (512, 256),
    "attn_norm": (256,),
    "ffn_norm": (256,),
}
FUSED = {
    "attn_qkv": (256, 384),
    "ffn_up": (256, 1024),
    **{name: BLOCK[name] for name in ("attn_output", "ffn_down", "attn_norm", "ffn_norm")},
}
BLOCKS = {  # of architectures whose class has others than Llama's
    "qwen3": BLOCK | dict.fromkeys(("attn_q_norm", "attn_k_norm"), (32,)),
    "phi3": FUSED,
}
ROUTED = {
    **{name: BLOCK[name] for name in ("attn_q", "attn_k", "attn_v", "attn_output")},
    "ffn_gate_inp": (256, 4),
    "ffn_up_exps": (256, 64, 4),
    "ffn_down_exps": (64, 256, 4),
}
TOKENS = Array("string", 1000, None)


def tensors(block=BLOCK, layers=2, **changed):
    whole = {"token_embd": (256, 1000), "output": (256, 1000), "output_norm": (256,)}
    named = whole | {f"blk.{i}.{name}": ne for i in range(layers) for name, ne in block.items()}
    return [
        CheckpointTensor(f"{name}.weight", FLOAT32, tuple(reversed(ne)), 0, "")
        for name, ne in (
            named | {key.replace("__", "."): ne for key, ne in changed.items()}
        ).items()
    ]


def said(facts=FACTS, stored=None, *, arch="llama", **more):
    metadata = {"general.architecture": arch, "tokenizer.ggml.tokens": TOKENS}
    metadata |= {f"{arch}.{key}": value for key, value in facts.items() if value is not None}
    block = BLOCKS.get(arch, BLOCK)
    return check(metadata | more, tensors(block) if stored is None else stored)


@pytest.mark.parametrize("arch", ["llama", "qwen3", "phi3", "mistral3"])
def test_a_file_of_one_model(arch):
    assert said(arch=arch) == []
    assert said(FACTS | EXPERTS, tensors(ROUTED), arch=arch) == []


def test_gates_beside_what_they_gate():
    """Phi-3's ffn_up and GLM's hold both, and three matrices of attention may be one."""
    assert said(arch="phi3", stored=tensors(FUSED)) == []
    wider = {**BLOCK, "attn_q": (256, 512)}  # Qwen3-Next's queries and their gates
    facts = FACTS | {"ssm.group_count": 1, "ssm.time_step_rank": 1, "ssm.inner_size": 8}
    facts |= {"ssm.state_size": 8, "ssm.conv_kernel": 4, "full_attention_interval": 1}
    assert said(facts, tensors(wider), arch="qwen3next") == []
    with pytest.raises(BadFileError, match=r"asks for 256 in blk.0.attn_q.weight, which has 512"):
        said(stored=tensors(wider))


def test_layers_that_guess_tokens_may_be_left_out():
    facts = FACTS | {"block_count": 3, "nextn_predict_layers": 1}
    assert said(facts, arch="glm4moe") == said(facts, tensors(layers=3), arch="glm4moe") == []
    alone = [t for t in tensors(layers=3) if not t.name.startswith(("blk.0.", "blk.1."))]
    assert said(facts, alone, arch="qwen35") == []  # models/qwen35.cpp, mtp_only
    with pytest.raises(BadFileError, match="no tensors of block 0"):
        said(FACTS | {"block_count": 3}, alone, arch="qwen3")


def test_a_layer_that_was_searched_away():
    """Nemotron's are empty where they have neither heads nor a feed-forward."""
    per_layer = {
        "attention.head_count": Array("int32", 3, (8, 8, 0)),
        "attention.head_count_kv": Array("int32", 3, (2, 2, 0)),
        "feed_forward_length": Array("int32", 3, (512, 512, 0)),
    }
    assert said(FACTS | {"block_count": 3} | per_layer, arch="deci") == []
    with pytest.raises(BadFileError, match="no tensors of block 2"):
        said(FACTS | {"block_count": 3}, arch="deci")


CONTRADICTIONS = {
    "attention.head_count_kv": (1, "head_count_kv x key_length asks for 32 in blk.0.attn_k"),
    "block_count": (4, "block_count is 4, and there are no tensors of block 2"),
    "embedding_length": (128, "embedding_length asks for 128 in token_embd.weight, which has 256"),
    "feed_forward_length": (1024, "feed_forward_length asks for 1,024 or 2,048 in blk.0.ffn_up"),
    "attention.head_count": (4, "head_count x key_length asks for 128 in blk.0.attn_q"),
    "attention.key_length": (64, "head_count x key_length asks for 512 in blk.0.attn_q"),
    "attention.value_length": (16, "head_count_kv x value_length asks for 32 in blk.0.attn_v"),
    "rope.dimension_count": (16, "rope.dimension_count is 16, and heads have 32"),
}


@all_of("key", CONTRADICTIONS)
def test_what_llama_cpp_loads_no_file_of(key):
    value, words = CONTRADICTIONS[key]
    with pytest.raises(BadFileError) as raised:
        said(FACTS | {key: value}, arch="llama" if key.startswith("rope") else "qwen3")
    assert words in str(raised.value)


@all_of("role", ["attn_q", "attn_k", "attn_v", "ffn_up", "ffn_gate"])
def test_every_matrix_reads_the_width(role):
    narrow = {**BLOCK, role: (128, BLOCK[role][1])}
    with pytest.raises(BadFileError, match=f"embedding_length asks for 256 in blk.0.{role}.weight"):
        said(stored=tensors(narrow))


def test_fewer_blocks_than_there_are():
    with pytest.raises(BadFileError, match="block_count is 1, and there are tensors of block 1"):
        said(FACTS | {"block_count": 1})


def test_heads_that_do_not_divide():
    for heads in (3, 16):
        with pytest.raises(BadFileError, match=f"8 is no multiple of its head_count_kv {heads}"):
            said(FACTS | {"attention.head_count_kv": heads})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"expert_count": 8}, "expert_count asks for 8 in blk.0.ffn_gate_inp"),
        ({"expert_feed_forward_length": 32}, "asks for 32 or 512 in blk.0.ffn_down_exps"),
    ],
)
def test_experts(facts, words):
    with pytest.raises(BadFileError, match=words):
        said(FACTS | EXPERTS | facts, tensors(ROUTED))


def test_latents():
    facts = FACTS | {
        "attention.kv_lora_rank": 128,
        "attention.key_length_mla": 48,
        "attention.value_length_mla": 32,
        "rope.dimension_count": 16,
    }
    block = {
        "attn_q": (256, 384),
        "attn_kv_a_mqa": (256, 144),
        "attn_output": (256, 256),
        "ffn_down": (512, 256),
    }
    assert said(facts, tensors(block), arch="deepseek2") == []
    wrong = facts | {"attention.kv_lora_rank": 64}
    with pytest.raises(BadFileError, match=r"asks for 80 in blk.0.attn_kv_a_mqa.weight"):
        said(wrong, tensors(block), arch="deepseek2")


def test_more_tokens_than_the_embedding_has():
    more = {"tokenizer.ggml.tokens": Array("string", 1001, None)}
    with pytest.raises(BadFileError, match=r"asks for 1,001 in token_embd.weight"):
        said(**more)


def test_of_a_stranger_it_is_said_and_never_silent():
    (told,) = said(FACTS | {"attention.head_count_kv": 1}, arch="of-next-year")
    assert "which has 64" in told
    assert "the metadata was believed" in told


@all_of(
    ("facts", "words"),
    [
        ({"context_length": 0}, "context_length is 0"),
        ({"vocab_size": 32000}, "32,000 tokens, and token_embd.weight 1,000 rows"),
        ({"rope.scaling.factor": 1e30}, "factor is 1e+30"),
        ({"rope.scaling.factor": 0.0}, "factor is 0"),
        ({"rope.scaling.factor": float("nan")}, "factor is nan"),
        (
            {"rope.scaling.factor": 2.0, "rope.scaling.original_context_length": 1024},
            "1,024 x 2 = 2,048",
        ),
    ],
)
def test_what_changes_no_tensor_is_said(facts, words):
    (told,) = said(FACTS | facts)
    assert words in told


def test_what_is_not_there_contradicts_nothing():
    """An architecture alone is of no size: what it lacks is said."""
    told = said(dict.fromkeys(FACTS), arch="llama")
    assert [line.split()[1] for line in told[:3]] == [
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
    ]
    assert said(dict.fromkeys(FACTS), arch="of-next-year") == []
    assert check({}, tensors()) == []


def without(*names, block=BLOCK):
    return [t for t in tensors(block) if not t.name.startswith(names)]


MORE = [*tensors(), CheckpointTensor("blk.0.attn_x.weight", FLOAT32, (4,), 0, "")]


@all_of(
    ("arch", "facts", "stored", "words"),
    [
        ("qwen3", {}, tensors(), "attn_q_norm.weight has 0 numbers of 32"),
        ("gemma3", {}, tensors(), "attn_q_norm.weight has 0 numbers of 32 (and 7 more)"),
        ("qwen2", {}, tensors(), "attn_q.bias is not there"),
        ("llama", {}, without("output_norm"), "output_norm.weight has 0 numbers of 256"),
        ("llama", {}, without("blk.1.ffn_gate"), "ffn_gate.weight has 0 numbers of 131,072"),
        ("llama", {}, without("blk.0.attn_q"), "attn_q.weight has 0 numbers of 65,536:"),
        ("llama", {}, tensors(output=(256, 100)), "output.weight has 25,600 numbers of 256,000"),
        ("llama", {}, tensors(blk__0__ffn_norm=(32,)), "ffn_norm.weight has 32 numbers of 256"),
        ("llama", {}, MORE, "blk.0.attn_x.weight is there"),
        ("llama", {"feed_forward_length": None}, tensors(), "ffn_gate.weight has 131,072 numbers"),
        ("llama", {"context_length": None}, tensors(), "llama.context_length is not there"),
        ("llama", {"expert_count": 4}, tensors(), "expert_count is 4, and no tensor holds experts"),
        ("llama", {"expert_used_count": 2}, tensors(), "is 2, and there is no expert_count"),
    ],
)
def test_a_file_that_is_not_its_class_is_said(arch, facts, stored, words):
    """Trained, it is refused; weighed, its answer says so."""
    (told,) = said(FACTS | facts, stored, arch=arch)
    assert words in told
    assert told.endswith(": llama.cpp may load no such file")


def test_a_list_is_of_all_blocks():
    three = Array("int32", 3, (2, 2, 2))
    with pytest.raises(BadFileError, match="head_count_kv has 3 numbers for 2 blocks"):
        said(FACTS | {"attention.head_count_kv": three})


@all_of(("claimed", "count"), [(0, 0), (1, 0), (32, 0), (15, 1), (7, 1)])
def test_a_file_type_that_no_tensor_has(claimed, count):
    assert len(said(**{"general.file_type": claimed})) == count
    packed = [t._replace(dtype=GGML_BY_NAME["Q4_K"]) for t in tensors()]
    assert len(said(stored=packed, **{"general.file_type": claimed})) == 1 - count


def test_an_adapter_is_no_model():
    (told,) = said(**{"general.type": "adapter"})
    assert "loads it beside a model alone" in told
    assert said(**{"general.type": "model"}) == []
