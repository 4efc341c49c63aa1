"""SGLang against start-up logs: what it makes of the memory that a log says is free, and what we
make of model, flags and card alone. Figures and configs are beside the checkout."""

import json
from fractions import Fraction
from functools import cache

import pytest

from tests.cases import all_of
from tests.corpus import MODELS, ROOT
from tests.engines.answers import answer, load_gib, of_config
from weighbridge.base.units import GIB
from weighbridge.engines.sglang.caches import SglangCacheSetting, fitting
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Attention, Layer

LOGS = ROOT / "measurements" / "sglang_repo_logs.jsonl"
ISSUES = ROOT / "measurements" / "engine_issues.jsonl"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LOGS.exists(), reason="the measurements are not beside the checkout"),
]
VERSION = "0.5.12"  # of the repository when it logged them: benchmarks/sprint-2026-06-kv-decode

# The checkpoints are of the log's owner; configs are of the bases, and the group sizes those that
# divide: 704 and 2,112 columns have no groups of 128.
BASES = {
    "gemma-4-26B-AWQ": ("google__gemma-4-26B-A4B", "awq-4bit-g32"),
    "gemma-4-31B-AWQ": ("google__gemma-4-31B", "awq-4bit-g128"),
}


def records(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return [r for r in map(json.loads, lines) if r["framework"] == "sglang"]


def twelve():
    """Gemma 4 12B, whose config is not at hand: 40 windows of 8 heads, 8 full layers of one."""

    def heads(kv_heads, dim, window=None):
        return Attention(heads=16, kv_heads=kv_heads, key_dim=dim, value_dim=dim, window=window)

    near, full = Layer(mixers=(heads(8, 256, 1024),)), Layer(mixers=(heads(1, 512),))
    return [near] * 40 + [full] * 8


@cache
def remembered(model_id):
    return twelve() if "12B" in model_id else layers(Config(raw(BASES[model_id][0])))


@cache
def raw(folder):
    return json.loads((MODELS / folder / "config.json").read_text())


@cache
def free_of_weights():
    """Return, for each log, GiB free after the load and GiB that it took."""
    return {
        r["source"]["path"]: (r["components"]["avail_after_load_GB"], r["value"])
        for r in records(LOGS)
        if r["quantity"].startswith("weights")
    }


POOLS = [r for r in records(LOGS) if r["quantity"] == "kv_bytes"]
WEIGHTS = [r for r in records(LOGS) if r["quantity"].startswith("weights")]


def test_the_records_are_all_here():
    assert (len(POOLS), len(WEIGHTS)) == (42, 21)


@all_of("record", POOLS, ids=lambda r: r["id"])
def test_pools_of_what_is_free(record):
    flags, log = record["engine"], record["components"]
    after, took = free_of_weights()[record["source"]["path"]]
    pools = sorted(p["tokens"] for p in log["kv_pools"])
    ratio = Fraction(flags["swa_full_tokens_ratio"])
    share = Fraction(flags["mem_fraction_static"])
    s = SglangCacheSetting(
        context=262_144,
        tensor_parallel=2,
        kv_cache_dtype=flags["kv_cache_dtype"],
        swa_full_tokens_ratio=ratio,
        version=(0, 5, 12),
    )
    free = Fraction(after) - (Fraction(after) + Fraction(took)) * (1 - share)
    found = fitting(remembered(record["model_id"]), s, int(free * GIB))
    assert pools[0] == int(pools[1] * ratio)
    want = found.full if log["tokens"] == pools[1] else found.sliding
    assert want == pytest.approx(log["tokens"], rel=0.01)  # of the rank that has least, two digits


@cache
def predicted(model_id, flags):
    folder, quantization = BASES[model_id]
    own = dict(flags)
    return answer(
        of_config(raw(folder)),
        engine="sglang",
        engine_version=VERSION,
        gpu="3090:2",
        quantization=quantization,
        tensor_parallel_size=2,
        context=262_144,
        chunked_prefill_size=4096,
        max_running_requests=1,
        attention_backend="triton",
        kv_cache_dtype=own["kv_cache_dtype"],
        disable_cuda_graph=own["disable_cuda_graph"] == "True",
        mem_fraction_static=float(own["mem_fraction_static"]),
        swa_full_tokens_ratio=float(own["swa_full_tokens_ratio"]),
    )


def of_nothing(record):
    return predicted(record["model_id"], tuple(sorted(record["engine"].items())))


@pytest.mark.parametrize(
    "record", [r for r in POOLS if r["model_id"] in BASES], ids=lambda r: r["id"]
)
def test_pools_of_nothing(record):
    found, log = of_nothing(record).derived, record["components"]
    full = log["tokens"] == log["max_total_num_tokens"]
    want = found["max_total_num_tokens" if full else "swa_max_total_num_tokens"]
    assert want == pytest.approx(log["tokens"], rel=0.02)


@pytest.mark.parametrize(
    "record", [r for r in WEIGHTS if r["model_id"] in BASES], ids=lambda r: r["id"]
)
def test_weights(record):
    assert load_gib(of_nothing(record)) == pytest.approx(record["value"], rel=0.02)


# Version, card and settings of the records from issues, where they can be told
ISSUED = {
    "eng-012": ("Qwen__Qwen3-235B-A22B-FP8", "h100:4", "0.4.9", {"mem_fraction_static": 0.93}),
    "eng-020": ("meta-llama__Llama-3.1-8B-Instruct", "h100", "0.4.5", {"context": 131_072}),
    "eng-022": ("meta-llama__Llama-3.1-8B-Instruct", "h100", "0.4.5", {"context": 131_072}),
    "eng-023": ("Qwen__Qwen3-14B", "4090:4", "0.5.2", {"mem_fraction_static": 0.8}),
    "eng-025": ("Qwen__Qwen3-14B", "4090:4", "0.5.2", {"mem_fraction_static": 0.8}),
    "eng-029": ("meta-llama__Meta-Llama-3-8B", "mi300x", "0.4.5", {}),
}
LOOSE = {"eng-012": 0.03}  # what NCCL takes on four H100 is an interval


@pytest.mark.parametrize(
    "record", [r for r in records(ISSUES) if r["id"] in ISSUED], ids=lambda r: r["id"]
)
def test_issues(record):
    folder, gpu, version, flags = ISSUED[record["id"]]
    found = answer(
        of_config(raw(folder)),
        engine="sglang",
        engine_version=version,
        gpu=gpu,
        tensor_parallel_size=record["gpu_count"],
        **flags,
    )
    if record["quantity"] == "kv_tokens":
        value = found.derived["max_total_num_tokens"]
    else:
        value = load_gib(found)
    assert value == pytest.approx(record["value"], rel=LOOSE.get(record["id"], 0.02))
