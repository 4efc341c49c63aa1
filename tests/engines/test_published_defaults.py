"""Numbers that engines have in their sources, and where: defaults, sizes of buffers, steps."""

import pytest

from tests.cases import all_of
from weighbridge.engines.llama_cpp import speculation
from weighbridge.engines.servers import cache_formats
from weighbridge.engines.sglang import caches as sglang_caches
from weighbridge.engines.sglang import card_defaults, dialect, effective, outside_pools, replica
from weighbridge.engines.vllm import caches as vllm_caches
from weighbridge.engines.vllm import (
    forward,
    graphs,
    host,
    infer,
    launching,
    profile,
    reserve,
    weights,
)

MIB, GIB = 2**20, 2**30


@all_of(
    ("ours", "theirs"),
    [
        # vLLM: config/lora.py, layers/vocab_parallel_embedding.py, config/multimodal.py
        (weights.LORA_RANKS, (1, 8, 16, 32, 64, 128, 256, 320, 512)),
        (launching.LORA_RANK, 16),
        (profile.PADDED, 64),
        (host.ITEMS, 4 * GIB),
        (host.STORE_AT_MOST, 200 * 10**9),  # ray _private/ray_constants.py
        # v1/attention/backends/flashinfer.py, mla/; layers/quantization/awq.py (unpacks from there on)
        (reserve.FLASHINFER, 394 * MIB),
        (weights.LATENT_BUFFER, 128 * MIB),
        (graphs.UNPACKED_FROM, 256),
        # layers/attention/mla_attention.py (determine_chunked_prefill_workspace_size)
        (forward.EXPANDED, 65_536),
        (graphs.SPLITS, 32),  # config/attention.py
        # v1/kv_cache_interface.py: tokens of a block, bytes of DeepSeek-V4's pages, an indexer's scale
        ((vllm_caches.BLOCK, infer.KERNEL), (16, 16)),
        ((vllm_caches.PACKED_ALIGNMENT, cache_formats.SCALED), (576, 128)),
        # SGLang: srt/arg_groups/fields/lora.py (max_loras_per_batch), server_args.py
        ((dialect.LORAS, effective.LORAS), (8, 8)),
        (outside_pools.PROMPTS, 16_384),  # max_prefill_tokens
        (effective.SPECULATING, 48),  # max_running_requests
        (effective.DRAFTED, {"NGRAM": 12}),  # speculative_num_draft_tokens
        ((effective.NEAR, effective.NEAR_OF_COMPRESSED), (0.8, 0.1)),  # swa_full_tokens_ratio
        (replica.ENCODED, 100 * MIB),  # SGLANG_VLM_CACHE_SIZE_MB
        (sglang_caches.EVICTED, 128),  # SGLANG_SWA_EVICTION_INTERVAL
        # srt/mem_cache: pages and scales of an indexer's keys, int32 of a token in the table
        (sglang_caches.PAGE_ALIGNMENT, 576),
        (sglang_caches.POSITION, 4),
        (card_defaults.FLASHINFER, 384 * MIB),  # SGLANG_FLASHINFER_WORKSPACE_SIZE
        (
            card_defaults.WORKSPACE,  # srt/layers/attention/*_backend.py
            {
                "flashinfer": 384 * MIB,
                "trtllm_mha": 512 * MIB,
                "trtllm_mla": 150 * MIB,
                "cutlass_mla": 128 * MIB,
            },
        ),
        # llama.cpp: common/common.h (speculative.n_max, ngram size_m)
        ((speculation.PROPOSED, speculation.OF_NGRAMS), (3, 48)),
    ],
)
def test_what_sources_say(ours, theirs):
    assert ours == theirs


@all_of(
    ("backend", "pages", "otherwise"),
    [
        ("flashmla", (64,), 64),
        ("cutlass_mla", (128,), 128),
        ("trtllm_mla", (32, 64), 64),
        ("cutedsl_mla", (32, 64), 64),
        ("trtllm_mha", (16, 32, 64, 128), 64),
        ("fa4", (128,), 128),
        ("dsa", (64,), 64),
        ("dsv4", (256,), 256),
    ],
)
def test_pages_that_a_backend_takes(backend, pages, otherwise):
    """srt/arg_groups/overrides.py; others take any."""
    for page in (None, 1, 16, 32, 64, 128, 256):
        assert card_defaults.page(backend, page) == (page if page in pages else otherwise)
        assert card_defaults.page("triton", page) == (page or 1)


@pytest.mark.parametrize(
    ("backend", "tables", "nbytes"),
    [
        ("flashinfer", 1, 8 * 1000 * 5),  # int32, and a byte of mask
        ("triton", 1, 8 * 1000 * 8),  # int64
        ("fa3", 1, 8 * 16 * 4),  # int32 a page of 64
        ("fa3", 3, 3 * 8 * 16 * 4),
    ],
)
def test_rows_for_captured_batches(backend, tables, nbytes):
    """Eight requests of 1,000 tokens."""
    assert card_defaults.rows(backend, 8, 1000, 64, tables) == nbytes
