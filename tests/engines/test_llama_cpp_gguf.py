"""A GGUF file and the model that it was converted from: one answer."""

import os

import pytest

import weighbridge
from tests.engines.answers import named
from tests.formats.build_gguf import Writer
from weighbridge.base.dtypes import GGML
from weighbridge.base.errors import BadFileError
from weighbridge.engines.llama_cpp.infer import infer
from weighbridge.engines.llama_cpp.networks import network
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

NUMBER = {d.name: n for n, d in GGML.items()}
LLAMA = {
    "block_count": 32,
    "context_length": 131_072,
    "embedding_length": 4096,
    "feed_forward_length": 14_336,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "vocab_size": 128_256,
}
QWEN = {
    "block_count": 48,
    "context_length": 40_960,
    "embedding_length": 2048,
    "feed_forward_length": 6144,
    "attention.head_count": 32,
    "attention.head_count_kv": 4,
    "attention.key_length": 128,
    "attention.value_length": 128,
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 768,
}
GEMMA = {
    "block_count": 42,
    "context_length": 8192,
    "embedding_length": 3584,
    "feed_forward_length": 14_336,
    "attention.head_count": 16,
    "attention.head_count_kv": 8,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.sliding_window": 4096,
}
SOFTCAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
MODELS = {
    "llama-3.1-8b": ("llama", LLAMA, {}),
    "qwen3-30b-a3b": ("qwen3moe", QWEN, {}),
    "gemma-2-9b": ("gemma2", GEMMA, SOFTCAPS),
}


def asked(model, w):
    kind = engine("llama.cpp")
    return subject(model, w, kind, version(kind, None)[0])


def written(path, name):
    """The tensors that the class would be converted to, in a file without their values."""
    arch, numbers, floats = MODELS[name]
    found = network(asked(named(name), Infer(engine="llama.cpp", quantization="Q4_K_M"))).weights
    w = Writer()
    w.key("general.architecture", w.value("str", arch))
    for key, value in numbers.items():
        w.key(f"{arch}.{key}", w.value("u32", value))
    for key, value in floats.items():
        w.key(f"{arch}.{key}", w.value("f32", value))
    for t in found.values():
        w.tensor(t.name, t.ne, NUMBER[t.dtype.name], nbytes=t.nbytes)
    path.write_bytes(w.head())
    os.truncate(path, path.stat().st_size + 64 + w.at)
    return path


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """(of the file, of the class)"""
    path = written(tmp_path_factory.mktemp("gguf") / "model.gguf", request.param)
    return resolve(gather(str(path), GatherOptions())), named(request.param)


@pytest.mark.parametrize(
    "w",
    [
        {},
        {"flash_attn": "off", "program": "cli"},
        {"n_gpu_layers": 9, "cache_type_k": "q8_0"},
        {"n_cpu_moe": 5, "gpu": "rtx-4090"},
        {"engine_version": "b5331", "ubatch_size": 256},
    ],
    ids=["server", "scores", "some layers", "experts", "b5331"],
)
def test_one_answer(pair, w):
    asked_for = [
        Infer(engine="llama.cpp", context=8_192, quantization=form, **w)
        for form in (None, "Q4_K_M")
    ]
    answers = [
        infer(asked(model, one), one, one.budget())
        for model, one in zip(pair, asked_for, strict=True)
    ]
    sizes = [
        [
            (d.kind, p.name, c.name, c.detail, tuple(c.bytes))
            for d in found.devices
            for p in d.phases
            for c in p.components
        ]
        for found in answers
    ]
    assert sizes[0] == sizes[1]
    assert answers[0].devices[0].phases[0].components[0].basis == "read"


def test_a_layer_shares_with_one_that_stores(tmp_path):
    """Four of one were a recursion without an end."""
    w = Writer()
    w.key("general.architecture", w.value("str", "gemma3n"))
    facts = {"block_count": 1, "embedding_length": 32, "attention.head_count": 4}
    for key, value in {**facts, "attention.shared_kv_layers": 4}.items():
        w.key(f"gemma3n.{key}", w.value("u32", value))
    w.tensor("token_embd.weight", [32, 100])
    path = tmp_path / "model.gguf"
    path.write_bytes(w.file())
    with pytest.raises(BadFileError, match=r"shared_kv_layers is 4 of 1 layers"):
        weighbridge.infer(path, engine="llama.cpp")


def test_an_embedding_without_sizes(tmp_path):
    w = Writer()
    w.key("general.architecture", w.value("str", "of-next-year"))
    facts = {"block_count": 1, "embedding_length": 32, "attention.head_count": 4}
    for key, value in facts.items():
        w.key(f"of-next-year.{key}", w.value("u32", value))
    w.tensor("token_embd.weight", []).tensor("blk.0.attn_q.weight", [32, 32])
    path = tmp_path / "model.gguf"
    path.write_bytes(w.file())
    told = weighbridge.infer(path, engine="llama.cpp").warnings
    assert any("asks for 32 in token_embd.weight, which has 1" in one for one in told)
