"""vLLM's blocks: published figures, logged facts, edges by hand. The laws are in
test_caches_laws.py."""

import json

import pytest

from tests.cases import all_of
from tests.corpus import ROOT, configs, manifest
from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.vllm import caches as vllm
from weighbridge.engines.vllm.blocks import RequestLoad, Spec, blocks, pool
from weighbridge.engines.vllm.caches import VllmCacheSetting
from weighbridge.models import catalogue
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import (
    Attention,
    GatedDelta,
    Indexer,
    KimiDelta,
    Latent,
    Layer,
    Mamba2,
    Rwkv,
)


def logged_tokens(layers, setting, available):
    return vllm.logged(vllm.plan(layers, setting), setting, available)


def named(name):
    return layers(Config(catalogue.find(name).config))


FIGURES = [  # model, tokens, GiB
    ("llama-3-8b", 32_768, 4.00),
    ("llama-2-7b", 4_096, 2.00),
    ("qwen3-0.6b", 40_960, 4.375),
    ("falcon-7b", 2_048, 16 / 1024),
    ("deepseek-v3", 32_768, 61 * 576 * 2 * 32_768 / GIB),
]


@all_of(("name", "context", "gib"), FIGURES)
def test_figures(name, context, gib):
    assert vllm.needed(named(name), VllmCacheSetting(context=context)) == gib * GIB


def test_deepseek_v32_in_bytes_a_token():
    """656 of the latent and 132 of the indexer, in 61 layers."""
    own = VllmCacheSetting(context=64_000, kv_cache_dtype="fp8")
    assert vllm.needed(named("deepseek-v3.2"), own) == 64_000 * 48_068


@pytest.mark.parametrize(("batched", "gib"), [(8192, 3.38), (2048, 3.10)])
def test_tokens_on_their_way(batched, gib):
    """gpt-oss-20b: 8,192 blocks of the full group, and ceil((127 + 2 x batched) / 16) + 1 more."""
    own = VllmCacheSetting(context=131_072, max_num_batched_tokens=batched)
    exact = (8192 + -(-(127 + 2 * batched) // 16) + 1) * 393_216
    assert vllm.needed(named("gpt-oss-20b"), own) == exact
    assert round(exact / GIB, 2) == gib


def test_states_of_qwen3_next():
    found = vllm.content(named("qwen3-next-80b-a3b"), VllmCacheSetting(context=262_144))
    assert (found.kv, found.state) == (6 * GIB, 36 * 1_097_728)
    assert round(found.state / MIB, 2) == 37.69


def test_a_logged_hybrid():
    """Qwen3.5-0.8B: "Setting attention block size to 544", "Padding mamba page size by 2.64%"."""
    delta = GatedDelta(key_heads=16, value_heads=16, key_dim=128, value_dim=128, kernel=4)
    full = Attention(heads=8, kv_heads=2, key_dim=256, value_dim=256)
    model = [Layer(mixers=(delta,))] * 18 + [Layer(mixers=(full,))] * 6
    tokens, state, page = vllm.alignment(model, VllmCacheSetting(context=4096, ssm_dtype=FLOAT32))
    assert (tokens, state) == (544, 1_085_440)
    assert round(100 * (page - state) / state, 2) == 2.64
    attends = vllm.alignment(model[-1:], VllmCacheSetting(context=4096))
    assert attends == (16, 0, 0), "without states nothing is padded"


@pytest.mark.parametrize(("ssm", "tokens"), [(None, 544), (FLOAT32, 1056)])
def test_the_block_of_qwen3_next(ssm, tokens):
    found = vllm.alignment(
        named("qwen3-next-80b-a3b"), VllmCacheSetting(context=4096, ssm_dtype=ssm)
    )
    assert found[0] == tokens


def test_blocks_of_llama():
    model, own = named("llama-3.1-8b"), VllmCacheSetting(context=8192)
    assert vllm.plan(model, own).block == 2 * MIB
    assert vllm.plan(model, own).count(10 * GIB) == 5120
    assert logged_tokens(model, own, 10 * GIB) == 81_920
    assert logged_tokens(model, VllmCacheSetting(context=8192, version=(0, 19)), 10 * GIB) == 81_920


def test_a_hybrid_logs_otherwise_since_0_24():
    """Gemma 2 27B in 20.59 GiB: 7,335 blocks, half of them for either kind; then by concurrency."""
    model, old = named("gemma-2-27b"), VllmCacheSetting(context=8192, version=(0, 19))
    available = 7335 * vllm.plan(model, old).block
    assert round(available / GIB, 2) == 20.59
    assert logged_tokens(model, old, available) == 58_672
    assert round(vllm.plan(model, old).concurrency(available, old.load), 2) == 7.16
    new = VllmCacheSetting(context=8192, version=(0, 33))
    assert logged_tokens(model, new, available) == int(7335 / (512 + 513) * 8192)


# Of another fine-tune of the same shapes
SIBLINGS = {
    "RedHatAI/Qwen2.5-7B-Instruct-fp8-dynamic": "qwen2.5-7b",
    "RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8": "qwen2.5-7b",
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16": "llama-3.1-8b",
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8": "llama-3.1-8b",
    "moonshotai/Kimi-Dev-72B": "qwen2.5-72b",
    "Qwen/Qwen1.5-MoE-A2.7B": "qwen1.5-moe-a2.7b",
    "deepseek-ai/DeepSeek-V2-Lite-Chat": "deepseek-v2-lite",
    "google/gemma-2-27b-it": "gemma-2-27b",
    "google/gemma-2-9b-it": "gemma-2-9b",
    "google/gemma-2-2b-it": "gemma-2-2b",
}
LOGS = ROOT / "measurements" / "vllm_llmd_planner.jsonl"


def logs():
    """One record a log: the parts of what it printed."""
    lines = LOGS.read_text().splitlines() if LOGS.exists() else []
    records = [json.loads(line) for line in lines]
    return {
        r["source"]["path"]: r for r in records if "kv_cache_tokens" in (r.get("components") or {})
    }.values()


def config_of(model_id):
    if model_id in SIBLINGS:
        return catalogue.find(SIBLINGS[model_id]).config
    own = [e for e in catalogue.search(model_id) if e.repo_id == model_id]
    if own:
        return own[0].config
    files = {e["file"] for e in manifest() if e["model_id"] == model_id}
    return next((raw for file, raw in configs() if file in files), None)


@pytest.mark.slow
def test_tokens_of_a_log():
    """From the bytes that a log says are free, printed to 0.01 GiB, its tokens and its concurrency
    to that rounding."""
    found = logs()
    if not found:
        pytest.skip("the measurements are not beside this checkout")
    unknown = []
    for r in found:
        raw, logged, flags = config_of(r["model_id"]), r["components"], r["engine"]
        if raw is None:
            unknown.append(r["model_id"])
            continue
        own = VllmCacheSetting(
            context=flags["max_model_len"],
            version=(0, 19),
            max_num_batched_tokens=int(flags["max_num_batched_tokens"]),
            tensor_parallel=int((r.get("parallelism") or "TP 1").split()[1].rstrip(",")),
            block_size=16,
        )
        model = layers(Config(raw))
        ends = [int((logged["kv_cache_memory_gib"] + d) * GIB) for d in (-0.005, 0.005)]
        low, high = (logged_tokens(model, own, end) for end in ends)
        assert low <= logged["kv_cache_tokens"] <= high, r["model_id"]
        low, high = (vllm.plan(model, own).concurrency(end, own.load) for end in ends)
        assert low - 0.005 <= logged["max_concurrency"] <= high + 0.005, r["model_id"]
    assert len(unknown) <= 2, unknown


# By hand


LOAD = RequestLoad(context=100, in_flight=20)


@all_of(
    ("spec", "count"),
    [
        (Spec(kind="full", page=1, tokens=16), 7),
        (Spec(kind="full", page=1, tokens=100), 1),
        (Spec(kind="sliding", page=1, tokens=16, reach=10), 3),  # ceil(29 / 16) + 1
        (Spec(kind="sliding", page=1, tokens=16, reach=1000), 8),
        (Spec(kind="chunked", page=1, tokens=16, reach=10), 2),
        (Spec(kind="state", page=1, tokens=100), 1),
        (Spec(kind="cross", page=1, tokens=16, encoder=1500), 94),
    ],
)
def test_blocks_of_a_request(spec, count):
    assert blocks(spec, LOAD) == count


def groups(*specs):
    return [len(group.specs) for group in pool(specs).groups]


FULL, NEAR = (
    Spec(kind="full", page=64, tokens=16),
    Spec(kind="sliding", page=64, tokens=16, reach=8),
)


def test_groups():
    assert groups(*[FULL] * 5) == [5]
    assert groups(*[FULL] * 2, *[NEAR] * 6) == [2, 2, 2, 2]
    assert groups(*[FULL] * 2, *[NEAR] * 5) == [2, 2, 2, 1]  # the last of them is padded
    assert groups(*[FULL] * 12, *[NEAR] * 13) == [12, 13]  # less than half as many again
    assert pool([FULL] * 12 + [NEAR] * 13).block == 13 * 64


def test_smaller_pages_cover_more_tokens():
    wide = Spec(kind="full", page=128, tokens=16)
    found = pool([wide, NEAR])
    assert [(g.specs[0].page, g.tokens) for g in found.groups] == [(128, 16), (128, 32)]
    odd = Spec(kind="full", page=100, tokens=16)
    assert [(g.specs[0].page, g.tokens) for g in pool([odd, NEAR]).groups] == [(100, 16)] * 2


def test_one_kind_of_unequal_pages_is_one_group():
    wide = Spec(kind="full", page=100, tokens=16)
    assert pool([FULL, wide]).block == 164


def test_no_layers_no_blocks():
    empty = pool([])
    assert (empty.block, empty.count(GIB), empty.request(LOAD)) == (0, 0, 0)
    assert empty.concurrency(GIB, LOAD) == 0


HEAD = Attention(heads=8, kv_heads=2, key_dim=128, value_dim=64)


@all_of(
    ("kind", "nbytes"),
    [
        ("auto", 384),
        ("fp8", 192),
        ("fp8_e5m2", 192),
        ("int8_per_token_head", 200),
        ("fp8_per_token_head", 200),
        ("int4_per_token_head", 104),
        ("nvfp4", 64 + 8 + 32 + 4),
    ],
)
def test_formats_of_a_head(kind, nbytes):
    own = VllmCacheSetting(context=16, kv_cache_dtype=kind)
    assert vllm.needed((Layer(mixers=(HEAD,)),), own) == 16 * 2 * nbytes


@all_of(
    ("kind", "indexed", "nbytes"),
    [
        ("auto", False, 1152),
        ("fp8", False, 576),
        ("fp8_ds_mla", False, 656),
        ("nvfp4_ds_mla", False, 352),
        ("auto", True, 1152 + 132),
        ("fp8", True, 656 + 132),
    ],
)
def test_formats_of_a_latent(kind, indexed, nbytes):
    own = Latent(
        heads=128,
        rank=512,
        rotary=64,
        nope=128,
        value_dim=128,
        indexer=Indexer(heads=64, dim=128) if indexed else None,
    )
    found = vllm.needed((Layer(mixers=(own,)),), VllmCacheSetting(context=64, kv_cache_dtype=kind))
    assert found == 64 * nbytes


def test_an_unknown_format_is_an_error():
    with pytest.raises(UsageError, match="'fp7'"):
        vllm.needed((Layer(mixers=(HEAD,)),), VllmCacheSetting(context=16, kv_cache_dtype="fp7"))


def test_heads_are_repeated_when_there_are_fewer_than_ranks():
    one = (Layer(mixers=(HEAD,)),)
    sizes = [
        vllm.needed(one, VllmCacheSetting(context=16, tensor_parallel=n)) for n in (1, 2, 4, 8)
    ]
    assert sizes == [12_288, 6_144, 6_144, 6_144]


def test_groups_of_mamba_are_repeated_too():
    """One group for four ranks: each has all of it, and a quarter of the heads."""
    own = (Layer(mixers=(Mamba2(inner=64, heads=8, groups=1, state=16, kernel=4),)),)
    assert (
        vllm.needed(own, VllmCacheSetting(context=9, tensor_parallel=4))
        == (16 + 32) * 3 * 2 + 16 * 16 * 2
    )


def test_prefix_caching_of_states_takes_a_block_more():
    own = (Layer(mixers=(Mamba2(inner=64, heads=8, groups=1, state=16, kernel=4),)),)
    once = vllm.needed(own, VllmCacheSetting(context=9))
    assert vllm.needed(own, VllmCacheSetting(context=9, align=True)) == 2 * once


def test_kimi_keeps_float32():
    own = (Layer(mixers=(KimiDelta(heads=2, dim=4, kernel=4),)),)
    assert vllm.needed(own, VllmCacheSetting(context=9)) == 24 * 3 * 2 + 32 * 4


def test_windows_without_the_hybrid_manager_are_kept_whole():
    model = named("gemma-3-27b")
    whole = vllm.needed(model, VllmCacheSetting(context=32_768, hybrid=False))
    assert whole == 15.5 * GIB


def test_what_vllm_does_not_run():
    with pytest.raises(UnsupportedError, match="RWKV's time mixing"):
        vllm.specs(
            (Layer(mixers=(Rwkv(width=8, inner=8, head_dim=0),)),), VllmCacheSetting(context=9)
        )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"model_type": "nemotron_h"}, "float32"),
        ({"model_type": "nemotron_h", "mamba_ssm_cache_dtype": "bfloat16"}, "bfloat16"),
        ({"model_type": "qwen3_5", "text_config": {"mamba_ssm_dtype": "float32"}}, "float32"),
        ({"model_type": "qwen3_next"}, None),
    ],
)
def test_the_dtype_of_states(raw, expected):
    found = vllm.ssm_dtype(Config(raw))
    assert (found.name if found else None) == expected


def test_deepseek_v4_in_packed_blocks():
    """64 rows of 584 bytes, to a multiple of 576; five groups."""
    found = vllm.plan(named("deepseek-v4-flash"), VllmCacheSetting(context=131_072))
    pages = {spec.page for group in found.groups for spec in group.specs}
    assert -(-64 * 584 // 576) * 576 in pages
    assert sum(len(group.specs) for group in found.groups) == 43 + 41 + 21 + 41 + 21


@pytest.mark.parametrize(
    ("version", "by_groups"),
    [((0, 20), True), ((0, 20, 0), True), ((0, 20, 1), False), ((0, 24), False)],
)
def test_tokens_in_the_log_are_those_of_full_requests(version, by_groups):
    """Logs of 0.22.0 and 0.20.1 have 7.35 x 200,000 and 2.36 x 262,144 tokens; 0.20.0 counted by groups: of Gemma 3
    27B ten whole layers and 52 of windows are seven groups of ten."""
    model = named("gemma-3-27b")
    own = VllmCacheSetting(context=32_768, version=version)
    planned = vllm.plan(model, own)
    whole = int(planned.concurrency(80 * GIB, own.load) * 32_768)
    groups = planned.count(80 * GIB) // len(planned.groups) * 16
    assert vllm.logged(planned, own, 80 * GIB) == (groups if by_groups else whole)
    assert whole > 2 * groups


@pytest.mark.parametrize(
    ("version", "block"),
    [
        ((0, 23), 22 * 47_808),
        ((0, 24), 22 * 37_440 + 21 * 8640 + 20 * 1728),
        ((0, 28), 1_039_680),
        ((0, 29), 1_002_240),
    ],
)
def test_packed_blocks_had_as_many_pages_of_each_size(version, block):
    """DeepSeek-V4-Flash: pages of 37,440, 8,640 and 1,728 bytes of 21, 21 and 20 layers, 43 windows
    in groups of 22 and 21. A request took 6.66 GiB of a rank of GH200, not 6.35."""
    own = VllmCacheSetting(context=1_048_576, version=version, block_size=256)
    found = vllm.plan(named("deepseek-v4-flash"), own)
    assert 21 * (37_440 + 8640) + 20 * 1728 == 1_002_240
    assert found.block == block
    assert pytest.approx(6.66 / 6.35, abs=1e-3) == 22 * 47_808 / 1_002_240
