"""Where a log is far from what is predicted, it counts; figures of prose stand beside the answers."""

from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.base.units import GIB, MIB
from weighbridge.files.runfiles.findings import findings
from weighbridge.files.runfiles.measured import FAR, MeasuredPart, overruled

# In the shape of vLLM 0.8's log: weights and activations of a fork that does not fuse attention
LINE = (
    "vllm serve qwen3-8b --max-model-len 8192 --max-num-seqs 1\n"
    "INFO worker.py:292] model weights take {weights}GiB; non_torch_memory takes 0.10GiB; PyTorch "
    "activation peak memory takes {step}GiB; the rest of the memory reserved for KV Cache is "
    "{cache}GiB.\n"
)


def weighed(weights="15.27", step="1.20", cache="4.60", gpu="3090"):
    text = LINE.format(weights=weights, step=step, cache=cache)
    (run,) = weighbridge.weigh(text, name="the text", gpu=gpu).runs
    return run


def on_card(run, name):
    device = next(d for d in run.report.devices if d.kind == "gpu")
    phase = device.phases[-1]
    return next((c for c in phase.components if c.name == name), None)


@pytest.mark.parametrize(
    ("measured", "counts"), [(109, False), (111, True), (91, False), (89, True)]
)
def test_a_tenth_is_what_releases_differ_by(measured, counts):
    assert FAR == 0.1
    parts = (MeasuredPart("weights", measured, 100), MeasuredPart("kv_cache", 1, 1000))
    assert overruled(parts) is counts


def test_a_log_that_agrees_is_only_shown():
    run = weighed()
    assert not run.by_the_log and run.measured
    assert on_card(run, "weights").basis == "computed"


def test_a_log_that_is_far_stands_in_place_of_the_rules():
    usual, run = weighed(), weighed(weights="18.50", step="3.00", cache="1.20")
    assert run.by_the_log
    for name, size in (("weights", 18.5), ("activations", 3.0)):
        part = on_card(run, name)
        assert part.basis == "measured" and part.bytes.expected == pytest.approx(
            size * GIB, rel=1e-6
        )
    assert on_card(run, "logits") is None  # it is in the activations that were measured
    assert on_card(run, "kv_cache") == on_card(usual, "kv_cache")
    assert run.report.derived["available_kv_cache_bytes"] == pytest.approx(1.2 * GIB, rel=1e-6)
    assert usual.fits == "yes" and run.fits == "unknown"


def test_tokens_are_those_of_the_cache_that_was_measured():
    """1.125 GiB hold 8,192 tokens of 144 KiB."""
    run = weighed(weights="18.50", step="3.00", cache="1.125")
    assert run.report.derived["kv_cache_tokens"] == pytest.approx(8192, rel=0.02)


def test_the_screen_says_that_the_log_counts():
    said = "so the log counts in this answer"
    for weights, there in (("15.27", False), ("18.50", True)):
        text = LINE.format(weights=weights, step="1.20", cache="4.60")
        found = weighbridge.weigh(text, name="the text", gpu="3090")
        assert (said in " ".join(str(found).split())) is there
        assert found.to_dict()["runs"][0]["by_the_log"] is there


# What is used, as people write it


def served(gpus=2, each=15 * GIB, **workload):
    peak = SimpleNamespace(expected=each)
    device = SimpleNamespace(kind="gpu", phases=(), peak=lambda level: peak, peak_phase="load")
    base = {"engine": "llama.cpp", "no_mmap": False, "ram": None, "context": 4096}
    return SimpleNamespace(
        task="infer", devices=(device,) * gpus, derived={}, verdict=None, workload=base | workload
    )


def test_pages_of_a_file_that_is_not_mapped_are_its_own():
    text = "the process has 45 GB RSS"
    assert findings(text, [], [("m", served(no_mmap=True))]) == ()
    assert findings(text, [], [("m", served(engine="vllm", no_mmap=None))]) == ()


def test_an_ollama_list_is_in_order_within_the_size_of_its_buffers():
    """Our count of this run is 10.6 GB."""
    row = "NAME  ID  SIZE\nqwen3:14b  c3a702fca756  {} GB  100% GPU  8192  Forever\n memory"
    keys = {}
    for size in (8, 11, 15):
        found = weighbridge.weigh(row.format(size), name="the text")
        keys[size] = [f.key for f in found.findings]
    assert keys == {8: ["listed"], 11: ["listed.order"], 15: ["listed"]}


# A training in words


@pytest.mark.slow
def test_long_sequences_are_cut_over_the_cards():
    report = weighbridge.train("llama-3.1-8b", gpu="a100-40gb:8", seq_len=50_000)
    best = report.remedies[0]
    assert best.fits == "yes" and best.change["context_parallel_size"] == 8
    short = weighbridge.train("llama-3.1-8b", gpu="a100-40gb:8", seq_len=8 * 2048 - 1)
    assert not any("context_parallel_size" in r.change for r in short.remedies)


# Weights in host memory


def test_offloaded_weights_are_in_blocks_of_powers_of_two():
    """A layer of Qwen3-8B: 48, 32, 192 and 96 MiB in blocks of 64, 32, 256 and 128; 5 GiB are
    its first 14 layers."""
    report = weighbridge.infer("qwen3-8b", engine="vllm", cpu_offload_gb=5, gpu="4090")
    host = report.devices[-1]
    (away,) = (c for c in host.phases[-1].components if c.detail == "offloaded")
    assert 5 * GIB <= away.bytes.low < 5 * GIB + 192 * MIB
    assert away.bytes.high / away.bytes.low == pytest.approx(480 / 368, rel=0.01)


def test_the_share_that_a_load_needs_is_the_published_one():
    """vllm-project/vllm issue 22291: 10.6, 13.0 and 18.1 GB of share for 5, 20 and 50 requests of
    3,072 tokens (0.9.2)."""
    model = weighbridge.prepare("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", offline=True)
    for requests, published in ((5, 10.6), (20, 13.0), (50, 18.1)):
        report = model.infer(
            engine="vllm", engine_version="0.9.2", context=3072, batch_size=requests
        )
        needed = report.derived["share_needed_bytes"] / GIB
        assert needed == pytest.approx(published, rel=0.015)


# A pipeline whose stages are asked for the cache of all

STAGES = (
    "vllm-0.15.2\n`VLLM_PP_LAYER_PARTITION=12,24 vllm serve qwen3-8b --max-model-len 40960 "
    "--pipeline-parallel-size 2`\nValueError: To serve at least one request with the models's max "
    "seq len (40960), ({needed} GiB KV cache is needed, which is larger than the available KV cache "
    "memory (1.50 GiB). Based on the available memory, the estimated maximum model length is 10922."
)


@pytest.mark.parametrize(("needed", "there"), [("5.62", True), ("3.75", False)])
def test_a_stage_that_is_asked_for_all_layers_is_told(needed, there):
    """36 layers of 4 KiB a token: 5.625 GiB for 40,960; the stage of 24 has 96 KiB a token."""
    text = STAGES.format(needed=needed)
    found = weighbridge.weigh(text, name="the text", gpu="3090:2")
    keys = {f.key: f.values for f in found.findings}
    assert ("all_stages" in keys) is there
    if there:
        assert keys["all_stages"]["tokens"] == pytest.approx(1.5 * GIB / (96 * 1024), rel=0.02)
        assert found.runs[0].report.derived["largest_context"] is None
