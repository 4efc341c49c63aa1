"""A GGUF file is trained as the class that transformers dequantizes it into, or refused."""

import os

import pytest

import weighbridge
from tests.formats.build_gguf import Writer
from weighbridge.base.dtypes import GGML
from weighbridge.base.errors import BadFileError, UnsupportedError, UsageError
from weighbridge.engines.llama_cpp.networks import network
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

NUMBER = {d.name: n for n, d in GGML.items()}
COMMON = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
}
USUAL = {
    "block_count": 2,
    "context_length": 1024,
    "embedding_length": 64,
    "feed_forward_length": 160,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}
CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
WIDE = {"attention.key_length": 32, "attention.value_length": 32}
# GGUF's architecture: the class's own config, and what llama.cpp's converter writes of it
MADE = {
    "llama": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {**WIDE, "vocab_size": 512},
    ),
    "qwen2": (
        {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "head_dim": 16},
        {},
    ),
    "gemma2": (
        {
            "model_type": "gemma2",
            "architectures": ["Gemma2ForCausalLM"],
            "tie_word_embeddings": True,
            "sliding_window": 256,
            **CAPS,
        },
        {**WIDE, "attention.sliding_window": 256},
    ),
    "phi3": (
        {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "head_dim": 16},
        {"rope.dimension_count": 16},
    ),
    "qwen3moe": (
        {
            "model_type": "qwen3_moe",
            "architectures": ["Qwen3MoeForCausalLM"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
        },
        {
            **WIDE,
            "expert_count": 4,
            "expert_used_count": 2,
            "expert_feed_forward_length": 64,
        },
    ),
}


def written(path, arch, *, without=(), name=None, told=()):
    config, more = MADE[arch]
    kind = engine("llama.cpp")
    model = resolve(gather_config({**COMMON, **config}))
    asked = subject(
        model, Infer(engine="llama.cpp", quantization="Q8_0"), kind, version(kind, None)[0]
    )
    w = Writer()
    w.key("general.architecture", w.value("str", name or arch))
    for key, text in told:
        w.key(key, w.value("str", text))
    for key, value in {**USUAL, **more}.items():
        if key not in without:
            w.key(f"{name or arch}.{key}", w.value("u32", value))
    for key, value in CAPS.items() if arch == "gemma2" else ():
        w.key(f"{arch}.{key}", w.value("f32", value))
    for t in network(asked).weights.values():
        w.tensor(t.name, t.ne, NUMBER[t.dtype.name], nbytes=t.nbytes)
    path.write_bytes(w.head())
    os.truncate(path, path.stat().st_size + 64 + w.at)
    return path


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("arch", MADE)
def test_it_takes_what_the_class_takes(tmp_path, arch, method):
    """To the byte, on the device; on the host every rank unpacks a copy."""
    path = written(tmp_path / "model.gguf", arch)
    asked = {"method": method, "framework": "trainer", "seq_len": 128}
    file = weighbridge.train(path, **asked)
    own = weighbridge.train({**COMMON, **MADE[arch][0]}, **asked)
    assert file.devices[0].phases == own.devices[0].phases
    assert file.model.parameters == own.model.parameters
    assert any("dequantized" in said and own.model.architecture in said for said in file.warnings)
    load = file.devices[-1].phases[0]
    each = 4 if method == "full" else 2
    copied = sum(c.bytes.low for c in load.components if c.name == "weights")
    assert copied >= each * own.model.parameters


def test_what_has_no_class_is_refused_in_a_line(tmp_path):
    source = (("general.base_model.0.repo_url", "https://huggingface.co/org/original"),)
    other = written(tmp_path / "model.gguf", "llama", name="minicpm3", told=source)
    with pytest.raises(UnsupportedError, match=r"minicpm3.*org/original") as raised:
        weighbridge.train(other)
    assert "\n" not in str(raised.value)


def test_a_class_with_other_parameters_than_the_file_is_none(tmp_path):
    path = written(tmp_path / "model.gguf", "llama", without=("feed_forward_length",))
    with pytest.raises(UnsupportedError, match="original repository"):
        weighbridge.train(path)


def test_a_file_without_its_heads_of_keys_is_of_two_models(tmp_path):
    """Without them a llama has as many as of queries, and its tensors have fewer."""
    path = written(tmp_path / "model.gguf", "llama", without=("attention.head_count_kv",))
    with pytest.raises(BadFileError, match=r"blk.0.attn_k.weight, which has 64"):
        weighbridge.train(path)


@pytest.mark.parametrize(
    "settings", [{"method": "qlora"}, {"method": "lora", "quantization": "bnb-int8"}]
)
def test_it_is_not_packed_again(tmp_path, settings):
    """get_hf_quantizer: "You cannot combine Quantization and loading a model from a GGUF file"."""
    with pytest.raises(UsageError, match=r"GGUF file in .*--method lora"):
        weighbridge.train(written(tmp_path / "model.gguf", "qwen2"), **settings)


def test_no_trainer_packs_a_base_in_a_type_of_gguf():
    with pytest.raises(UsageError, match="no trainer packs a base so"):
        weighbridge.train("qwen3-0.6b", method="qlora", quantization="Q4_K_M")
