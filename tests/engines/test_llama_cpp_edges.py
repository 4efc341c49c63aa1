"""llama.cpp at its edges: classes that it does not know, formats that it does not hold, slots that
share or do not, and searches that replay few graphs."""

import pytest

import weighbridge
from tests import packings
from tests.ask import usual
from tests.cases import each
from tests.engines.answers import answer, named, of_config, part
from tests.sparse import write_repo
from weighbridge.answers.estimate.infer import infer
from weighbridge.answers.verdict import on_devices
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.engines.launch import parse
from weighbridge.engines.llama_cpp import holdings as holding
from weighbridge.engines.llama_cpp import infer as llama_cpp
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.models import catalogue
from weighbridge.workload import Infer, read

pytestmark = pytest.mark.slow

HERE = {"engine": "llama.cpp", "context": 4_096}


asked = usual(answer, "llama-3.1-8b", **HERE)


def weights(found):
    """Return the weights of GPUs and of the host, in GiB."""
    return sum(part(d.phases[0], "weights") for d in found.devices) / GIB


# Searches


@pytest.mark.parametrize(
    ("kind", "name", "gpu", "quantization"),
    [
        ("llama.cpp", "llama-3.1-8b", "h100", "Q4_K_M"),
        ("llama.cpp", "gpt-oss-20b", "4090:2", None),
        ("llama.cpp", "gemma-3-27b", "4090", "Q4_0"),
        ("ik_llama.cpp", "deepseek-v2-lite", "l4", "Q4_K_M"),
    ],
)
def test_a_search_answers_as_the_answer_does(kind, name, gpu, quantization):
    made = engine(kind)
    number, _ = version(made, None)
    for context, batch in ((512, 1), (4_096, 1), (32_768, 2), (65_536, 1), (4_096, 64)):
        w = Infer(
            engine=kind, context=context, batch_size=batch, gpu=gpu, quantization=quantization
        )
        s, budget = subject(named(name), w, made, number), w.budget()
        full = on_devices.serving(made.infer(s, w, budget).devices, budget).fits == "yes"
        assert made.holds(s, w, budget) == full


def test_nothing_is_replayed_for_what_tensors_alone_rule_out(monkeypatch):
    """Mixtral 8x22B in 16 bits is 262 GiB: graphs of the answer, and none for the searches."""
    calls = []
    real = holding.reserved
    monkeypatch.setattr(holding, "reserved", lambda *p: calls.append(1) or real(*p))
    w = Infer(engine="llama.cpp", context=4_080, gpu="h200", n_gpu_layers=-1)
    found = infer(named("mixtral-8x22b"), w)
    assert found.derived["largest_context"] == 0
    assert len(calls) == 1


def test_waiting_requests_are_not_at_once():
    w = Infer(engine="llama.cpp", context=4_096, gpu="h200", parallel=4)
    assert infer(named("qwen3-0.6b"), w).derived["largest_batch_size"] == 4


# Classes


@pytest.mark.parametrize(
    "name",
    ["bart-base", "m2m100-418m", "rwkv-4-169m", "whisper-tiny", "clip-vit-base-patch16",
     "gpt-neo-1.3b", "xlnet-base-cased", "opt-125m", "recurrentgemma-2b"],
)  # fmt: skip
def test_what_has_no_architecture_is_refused_by_its_name(name):
    with pytest.raises(UnsupportedError, match=f"^{name}: .*--engine transformers$"):
        asked(name)


def test_deepseek_v4_has_its_caches_and_the_scores_of_its_indexer():
    """Its graph is not in our tables. Builds before the indexer was one operation had its scores
    of 64 heads for a cell of four tokens, twice."""
    old, new = (asked("deepseek-v4-flash", engine_version=build) for build in ("9842", "11200"))
    buffers = [
        next(c for c in found.devices[0].phases[1].components if c.detail == "compute buffer")
        for found in (old, new)
    ]
    assert {buffer.basis for buffer in buffers} == {"assumed"}
    expected = [buffer.bytes.expected for buffer in buffers]
    assert expected[0] - expected[1] == 4 * 512 * 4_096 * 2 * 64 // 4


def test_an_unknown_graph_is_its_dominant_terms():
    """T5 base: 12 + 12 blocks of 768, 32,128 words, 222.9 million parameters; its buffers are
    assumed, from half to three times as much. Encoder and decoder have tensors of the same names:
    none is lost."""
    found = asked("t5-base")
    one = 32_128 * 768 * 2  # the tied matrix stands on both sides
    assert weights(found) == pytest.approx((222_903_552 * 2 + one) / GIB, rel=0.01)
    buffer = next(c for c in found.devices[0].phases[1].components if c.detail == "compute buffer")
    assert buffer.basis == "assumed"
    assert buffer.bytes.low * 2 <= buffer.bytes.expected == buffer.bytes.high / 3
    logits, layer, mask = 4 * 32_128, 512 * (4 * 768 + 3 * 3072), 512 * 4_096
    assert buffer.bytes.expected == 4 * (logits + layer + mask)
    assert any("'t5'" in said and "assumed" in said for said in found.warnings)


@pytest.mark.parametrize("name", ["distilbert-base-uncased", "modernbert-base"])
def test_kin_of_bert_have_its_graph(name):
    found = asked(name, context=512)
    buffer = next(c for c in found.devices[0].phases[1].components if c.detail == "compute buffer")
    assert buffer.basis == "computed"
    assert 2 * MIB < buffer.bytes.expected < 100 * MIB


def test_attention_beside_a_recurrence():
    """Falcon-H1: the graph of its attention is found whichever of the two comes first."""
    found = answer(of_config(FALCON_H1), **HERE)
    assert not any("in our tables" in said for said in found.warnings)


FALCON_H1 = {
    "architectures": ["FalconH1ForCausalLM"],
    "model_type": "falcon_h1",
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 32_768,
    "mamba_d_ssm": 1536,
    "mamba_n_heads": 24,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "max_position_embeddings": 16_384,
    "torch_dtype": "bfloat16",
}


DETECTORS = (
    "ultralytics",
    "torchvision",
)  # networks that sees, refused before any rule of an engine is asked


def told(name):
    """(the refusal, None) or ("", the answer)"""
    try:
        return "", asked(name)
    except UnsupportedError as error:
        return str(error), None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    each(
        3,
        (
            n
            for n in catalogue.names()
            if catalogue.find(n).config.get("model_type") not in ("timm_wrapper", *DETECTORS)
        ),
    ),
)
def test_every_name_of_the_catalogue_is_answered_or_refused(name):
    said, found = told(name)
    assert said.startswith(name) == ("--engine" in said) == (found is None)
    assert found is None or weights(found) > 0


# Formats


@pytest.mark.parametrize(
    ("name", "low", "high"), [("gpt-oss-120b", 57, 61), ("gpt-oss-20b", 11, 12)]
)
def test_experts_in_mxfp4_stay_so(name, low, high):
    """Published GGUF files: 63.4 GB and 12.1 GB, fetched from where they are."""
    found = asked(name)
    assert low < weights(found) < high
    assert found.derived["launch"] == f"llama-server -hf ggml-org/{name}-GGUF:MXFP4 -c 4096"


@pytest.mark.parametrize(("name", "form"), [("deepseek-v3", "fp8-block")])
def test_what_gguf_does_not_hold_is_converted_to_16_bits(name, form):
    w = Infer(**HERE)
    kind = engine("llama.cpp")
    s = subject(named(name), w, kind, version(kind, None)[0])
    assert s.choice.name == "BF16"
    assert s.why == f"as converted to GGUF from {form}"


def test_a_declared_format_may_be_said_as_well():
    assert asked("gpt-oss-20b", quantization="mxfp4").devices == asked("gpt-oss-20b").devices
    with pytest.raises(UsageError, match="--quantization fp8-block"):
        asked("deepseek-v3", quantization="fp8-block")


@pytest.mark.parametrize(("name", "near"), [("nf4", "Q4_K_M"), ("bnb-int8", "Q8_0")])
def test_types_of_others_are_refused_with_near_ones(name, near):
    with pytest.raises(UsageError, match=f"--quantization {name}.*{near}"):
        asked(quantization=name)


# Slots


def again(found, w):
    """What the launch line says, and nothing else."""
    launch = parse(found.derived["launch"])
    assert launch.unknown == ()
    return read("infer", {**launch.settings, "engine": w["engine"]}).but(engine_defaults=True)


@pytest.mark.parametrize("kind", ["llama.cpp", "ik_llama.cpp"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parallel": 2},
        {"parallel": 3, "context": 5_000},
        {"parallel": 2, "kv_unified": True},
        {"batch_size": 4},
        {"batch_size": 16},
        {"parallel": 4, "batch_size": 16},
        {"parallel": 2, "cache_type_k": "q8_0", "flash_attn": "on", "ubatch_size": 256},
    ],
)
def test_the_launch_line_is_a_fixed_point(kind, more):
    if kind == "ik_llama.cpp" and "kv_unified" in more:
        pytest.skip("ik_llama.cpp has one cache, and no such flag")
    w = {"engine": kind, "context": 4_096, "quantization": "Q4_K_M"} | more
    first = answer("llama-3.1-8b", **w)
    read_back = again(first, w).but(quantization="Q4_K_M")
    made = engine(kind)
    s = subject(named("llama-3.1-8b"), read_back, made, version(made, None)[0])
    second = made.infer(s, read_back, None)
    assert second.devices == first.devices
    assert second.derived["launch"] == first.derived["launch"]


def test_slots_that_are_apart_have_the_whole_context_each():
    """8 KV heads x 128 x 2 x 2 bytes x 32 layers = 128 KiB a token, of 2 x 4,096 tokens."""
    found = asked(parallel=2)
    assert found.settings["n_ctx"] == 8_192
    assert part(found.devices[0].phases[1], "kv_cache") == 8_192 * 128 * KIB
    assert "-c 8192" in found.derived["launch"]


def test_more_requests_than_slots_wait():
    found = asked(parallel=4, batch_size=16)
    assert found.settings["n_ctx"] == 4 * 4_096
    assert any("4 run at once" in said for said in found.warnings)


# Caches


@pytest.mark.parametrize(
    ("name", "kib"), [("gemma-3-27b", 80), ("gpt-oss-20b", 24), ("llama-3.1-8b", 128)]
)
def test_a_token_more_is_that_of_layers_that_keep_it(name, kib):
    """Gemma 3 27B: 10 of 62 layers x 16 heads x 128 x 2 x 2 bytes. gpt-oss-20b: 12 x 8 x 64 x 4."""
    assert asked(name).derived["kv_cache_bytes_per_token"] == kib * KIB


def test_windows_that_are_not_full_grow_with_each_token():
    """All 62 layers below 1,024 tokens."""
    assert asked("gemma-3-27b", context=512).derived["kv_cache_bytes_per_token"] == 62 * 8 * KIB


def test_types_of_caches_are_those_of_the_server():
    with pytest.raises(UsageError, match=r"^--kv-cache-dtype 'fp8' .*f32, f16, bf16, q8_0"):
        asked(kv_cache_dtype="fp8")
    with pytest.raises(UsageError, match=r"^--cache-type-k 'q4_k'"):
        asked(cache_type_k="q4_k")
    with pytest.raises(UsageError, match="q6_0"):
        asked(cache_type_k="q6_0")
    assert answer("llama-3.1-8b", engine="ik_llama.cpp", context=512, cache_type_k="q6_0").devices


ROUTED = {
    "model_type": "exaone_moe",
    "hidden_size": 4096,
    "intermediate_size": 16_384,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "vocab_size": 102_400,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "max_position_embeddings": 2048,
}


@pytest.mark.parametrize("name", ["n_group", "topk_group", "routed_scaling_factor"])
def test_a_config_whose_number_is_a_table_has_none(name):
    without = {k: v for k, v in ROUTED.items() if k != name}
    whole, wrong = (
        weighbridge.infer(config, engine="llama.cpp").devices
        for config in (without, ROUTED | {name: {"a": 1}})
    )
    assert [d.phases for d in wrong] == [d.phases for d in whole]


def test_a_head_that_is_one_number_has_one_row(tmp_path):
    """Nothing is known of the class: its tensors are taken as they are."""
    tensors = packings.plain() | {"lm_head.weight": ("BF16", ())}
    write_repo(tmp_path, packings.CONFIG | {"model_type": "never_heard_of"}, tensors)
    found = weighbridge.infer(str(tmp_path), engine="llama.cpp").devices[0]
    write_repo(tmp_path, packings.CONFIG | {"model_type": "never_heard_of"}, packings.plain())
    whole = weighbridge.infer(str(tmp_path), engine="llama.cpp").devices[0]
    assert found.peak("driver").expected < whole.peak("driver").expected


def test_searches_are_public():
    assert llama_cpp.__all__ == ["holds", "infer", "places", "probe"]
    assert engine("llama.cpp").places is llama_cpp.places  # of `fit --layouts`
