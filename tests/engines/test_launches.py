"""The launch line serves the workload: read again, and answered again on the same card."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.engines.answers import named
from weighbridge.engines.launch import parse
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.memory.report.verdict import judge
from weighbridge.workload import Infer, read

pytestmark = pytest.mark.slow

ENGINES = ("vllm", "sglang")
MODELS = (
    *("llama-3.1-8b", "qwen3-0.6b", "qwen3-30b-a3b", "gpt-oss-20b", "gemma-2-9b"),
    *("deepseek-v2-lite", "qwen2.5-32b", "phi-4"),
)
CARDS = ("4090", "l4", "a100-80gb", "h100", "b200", "rtx 3090", "rtx 4060 8gb")
FULL = ("llama-3.1-8b", "qwen3-0.6b", "qwen3-30b-a3b", "deepseek-v2-lite", "qwen2.5-32b", "phi-4")
PACKED = ("gpt-oss-20b",)
asked = st.fixed_dictionaries(
    {
        "gpu": st.sampled_from(CARDS),
        "context": st.sampled_from((512, 4096, 8192, 20_000, 32_768, 65_536)),
        "batch_size": st.sampled_from((1, 2, 7, 32, 300)),
        "quantization": st.sampled_from((None, None, "fp8-tensor")),
    }
)
LAWS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def answered(name, w):
    kind = engine(w.engine)
    found = subject(named(name), w, kind, version(kind, w.engine_version)[0])
    return kind.infer(found, w, w.budget())


def again(answer, w):
    """What the launch line asks for, and nothing else but the card and the requests."""
    launch = parse(answer.derived["launch"])
    assert launch.engine == w.engine
    assert launch.unknown == ()
    beside = {"gpu": w.gpu, "batch_size": w.batch_size, "engine": w.engine}
    return read("infer", {**launch.settings, **beside}).but(engine_defaults=True)


def of_flags(answer):
    """What is said of flags that the launch line asks for instead."""
    return [line for line in answer.warnings if "the launch line asks for --" in line]


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_the_launch_serves_or_we_say_that_none_does(kind, name, w):
    if name in PACKED:
        w = w | {"quantization": None}
    w = Infer(engine=kind, **w)
    first = answered(name, w)
    second = answered(name, again(first, w))
    facts, told = first.derived, second.derived
    assert told["serves_as_asked"] == facts["launch_serves"]
    assert told["launch"] == facts["launch"]
    assert facts["serves_as_asked"] or first.warnings
    if not facts["launch_serves"]:
        assert not of_flags(first)
        assert judge(first.serves.conditions) != "yes"
        return
    assert facts["serves_as_asked"] or of_flags(first)
    assert not of_flags(second)
    assert judge(second.serves.conditions) != "no"
    if name in FULL:  # with windows the log's count has a whole step's tokens for each request
        assert told["max_concurrency"] >= w.batch_size
        assert told["kv_cache_tokens"] >= w.context * w.batch_size
    assert second.devices == first.devices, "what is sized is what the line asks for"
    taken = second.devices[0].taken
    assert taken is not None
    assert second.devices[0].peak("driver").low <= taken


@pytest.mark.parametrize(
    ("kind", "name", "w", "flags"),
    [
        # weights 15.0 GiB and 4.0 of tokens on 23.6: the default fraction is made for 48 requests
        ("sglang", "llama-3.1-8b", {"gpu": "4090", "context": 32_768}, "--mem-fraction-static 0.8"),
        ("vllm", "llama-3.1-8b", {"gpu": "l4", "context": 33_792}, "--gpu-memory-utilization 0.9"),
        ("vllm", "llama-3.1-8b", {"gpu": "4090", "context": 61_440}, "--max-num-seqs 1"),
    ],
)
def test_flags_that_a_tight_card_takes(kind, name, w, flags):
    first = answered(name, Infer(engine=kind, **w))
    assert not first.derived["serves_as_asked"]
    assert first.derived["launch_serves"]
    assert flags in first.derived["launch"]
    assert first.warnings[0].endswith(f"the launch line asks for {first.serves.flags}")
    assert flags in first.serves.flags
    assert first.serves.then != "no"


@pytest.mark.parametrize("kind", ENGINES)
def test_what_the_user_said_is_kept(kind):
    """A share of a tenth serves nothing, and is not changed."""
    said = {"vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static"}[kind]
    found = answered("llama-3.1-8b", Infer(engine=kind, gpu="h100", **{said: 0.1}))
    assert not found.derived["launch_serves"]
    assert f"--{said.replace('_', '-')} 0.1" in found.derived["launch"]
    assert judge(found.serves.conditions) == "no"
    assert not found.serves.flags


@pytest.mark.parametrize("kind", ENGINES)
def test_nothing_is_added_where_the_default_serves(kind):
    found = answered("llama-3.1-8b", Infer(engine=kind, gpu="h100", context=8192))
    assert found.derived["serves_as_asked"]
    assert found.derived["launch"].split("Llama-3.1-8B ")[1] in (
        "--max-model-len 8192",
        "--context-length 8192",
    )


def test_speculation_and_formats_are_written():
    w = Infer(engine="vllm", context=4096, speculative_method="ngram", num_speculative_tokens=3)
    read_again = parse(answered("llama-3.1-8b", w).derived["launch"]).settings
    assert read_again["speculative_method"] == "ngram"
    assert read_again["num_speculative_tokens"] == 3
    for kind in ENGINES:
        found = answered("llama-3.1-8b", Infer(engine=kind, quantization="fp8-tensor"))
        assert parse(found.derived["launch"]).settings["quantization"] == "fp8-tensor"
