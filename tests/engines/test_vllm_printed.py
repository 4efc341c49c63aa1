"""What vLLM 0.19 logged on H100s: GiB as printed of weights, of a step and for the cache, and tokens.

Source: github.com/jgchn/llm-d-planner at d3121e059da88662db39a926a3ead964be97359b, accuracy/results/
v0.19.0/logs: --max-num-batched-tokens 8192, --max-num-seqs 1024, no prefix caching.
"""

import pytest

from tests.cases import each
from tests.engines.answers import answer
from weighbridge.base.units import GIB

# model, format, context, share of the card, ranks: weights, activations, cache, tokens
LOGGED = """
codellama-7b       -               8192 0.95 1  12.56 0.77 61.66  126256
deepseek-v2-lite   -               8192 0.95 1  29.43 1.93 43.61 1505552
gemma-2-27b        -               8192 0.95 1  50.72 3.66 20.59   58672
gemma-2-2b         -               8192 0.95 1   4.90 3.62 66.47  670160
gemma-3-12b        -               8192 0.95 1  23.31 3.94 47.72  130304
gemma-3-27b        -               8192 0.95 1  51.45 3.99 19.53   36560
gemma-7b           -               8192 0.95 1  15.91 3.63 55.44  129760
phi-2              -               2048 0.95 1   5.19 0.79 69.00  226112
phi-4              -               8192 0.95 1  27.39 1.52 46.08  241568
qwen2.5-72b        -               8192 0.95 2  67.82 2.29  3.02   19776
qwen2.5-72b        -               8192 0.95 4  34.01 2.29 36.72  481296
gpt-oss-20b        -               8192 0.95 1  13.64 2.87 58.47 1277184
gpt-oss-20b        -               8192 0.90 2   7.01 2.87 59.32 2591776
qwen1.5-moe-a2.7b  -               8192 0.95 1  26.67 2.47 45.83  250304
qwen3-30b-a3b      -               8192 0.95 1  56.88 2.68 15.41  168288
qwen3-8b           -               8192 0.95 1  15.27 2.21 57.50  418688
llama-3.1-8b       gptq-4bit-g128  8192 0.95 1   5.38 1.89 67.71  554704
llama-3.1-8b       w8a8-int8       8192 0.95 1   8.49 1.89 64.60  529200
"""
CLOSE = 0.019  # GiB: two printed digits, and blocks of the allocator
MORE = 0.006  # of the tokens


@pytest.mark.parametrize(
    "line", each(2, LOGGED.strip().splitlines()), ids=lambda line: line.split()[0]
)
def test_what_a_log_shows(line):
    name, form, context, share, ranks, *printed, tokens = line.split()
    found = answer(
        name,
        engine="vllm",
        engine_version="0.19",
        engine_defaults=True,
        quantization=None if form == "-" else form,
        context=int(context),
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
        gpu_memory_utilization=float(share),
        block_size=16,
        tensor_parallel_size=int(ranks),
        gpu="h100",
    )
    names = ("weights", "buffers", "rounding", "workspaces")
    load = found.devices[0].phases[0].components
    weights = sum(c.bytes.expected for c in load if c.name in names and c.detail != "requests")
    facts = found.derived
    ours = (weights, facts["profile_peak_bytes"], facts["available_kv_cache_bytes"])
    assert [n / GIB for n in ours] == pytest.approx([float(x) for x in printed], abs=CLOSE)
    assert facts["kv_cache_tokens"] == pytest.approx(int(tokens), rel=MORE)
