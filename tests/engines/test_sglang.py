"""SGLang: shares of cards, logged pools and weights, edges by hand, versions that differ, laws."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.ask import usual
from tests.cases import all_of
from tests.engines.answers import answer, load_gib, of_config, part
from tests.engines.kinds import PLAIN, SLIDING
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.sglang import caches, card_defaults, effective
from weighbridge.engines.sglang.caches import Pools, SglangCacheSetting, buffers, cells, fitting
from weighbridge.engines.sglang.rules import rules
from weighbridge.engines.sglang.step import RankSplit, chunk, tower
from weighbridge.engines.sglang.weights import split_rules
from weighbridge.models.arch.body import Dense, Experts, LayerBlock, Tower
from weighbridge.models.arch.mixers import Attention, Latent, Layer, Shared, ShortConv

served = usual(answer, None, engine="sglang")


def asked(version, mib, **more):
    usual = {"chunk": 8192, "largest": 160, "prefills": 0, "tensor": 1, "pipeline": 1}
    usual |= {"latent": False, "algorithm": None}
    return card_defaults.ShareCriteria(**(usual | {"version": version, "card": mib} | more))


# The share of a card


@all_of(
    ("question", "share"),
    [
        (asked((0, 4, 2), 24_576), 0.88),  # printed by 0.4.2 on one RTX 3090
        (asked((0, 4, 3), 23_034, tensor=4), 0.85),  # printed by 0.4.3 on four L4
        (asked((0, 4, 6), 143_771), (143_771 - 13_312) / 143_771),
        (asked((0, 4, 7), 24_576, algorithm="EAGLE"), 0.88 * 0.95),
        (asked((0, 4, 8), 81_559), round((81_559 - 10 * 1024) / 81_559, 3)),
        # 512 + 1.5 x 2048 + 2 x 8 + 128
        (asked((0, 5, 6), 16_303, chunk=2048, largest=8), 0.771),
        # at least 10 GiB are left of a large card, and 2 GiB for what drafts
        (asked((0, 5, 3), 81_559, chunk=2048), round((81_559 - 10_240) / 81_559, 3)),
        (
            asked((0, 5, 3), 81_559, chunk=2048, algorithm="EAGLE"),
            round((81_559 - 12_288) / 81_559, 3),
        ),
        (
            asked((0, 5, 23), 81_559, largest=256, prefills=58),
            round((81_559 - 512 - 12_288 - 512 - 128 - 464) / 81_559, 3),
        ),
    ],
)
def test_share(question, share):
    assert card_defaults.fraction(question) == pytest.approx(share)


def test_share_with_towers():
    """A ViT of 24 layers of 1,024 costs a twentieth; one four times as large a third more."""
    assert card_defaults.with_towers((0, 5, 23), 0.8, 24, 1024) == pytest.approx(0.76)
    assert card_defaults.with_towers((0, 5, 23), 0.8, 96, 1024) == pytest.approx(0.8 * 0.95 * 0.8)
    assert card_defaults.with_towers((0, 4, 10), 0.8, 24, 1024) == pytest.approx(0.76)
    assert card_defaults.with_towers((0, 4, 9), 0.8, 96, 1024) == pytest.approx(0.72)
    assert card_defaults.with_towers((0, 4, 4), 0.8, 96, 1024) == pytest.approx(0.76)


@all_of(
    ("version", "mib", "chunk", "few"),
    [
        ((0, 4, 3), 23_034, 2048, 8),
        ((0, 4, 3), 81_559, 8192, 160),
        ((0, 5, 3), 24_564, 2048, 16),
        ((0, 5, 10), 24_564, 2048, 24),
        ((0, 5, 23), 24_564, 4096, 48),
        ((0, 5, 23), 143_771, 8192, 256),
        ((0, 5, 23), 183_359, 16_384, 512),
        ((0, 5, 23), None, 4096, 160),
    ],
)
def test_sizes_by_card(version, mib, chunk, few):
    found = card_defaults.size(version, mib)
    assert (found.chunk, found.few) == (chunk, few)


def test_captured_batches():
    """Logs list them: 36 up to 256, 52 up to 512; 58 and 74 lengths of prefill."""
    assert card_defaults.decodes(8, speculative=False) == (1, 2, 4, 8)
    assert len(card_defaults.decodes(80, speculative=False)) == 14
    assert len(card_defaults.decodes(256, speculative=False)) == 36
    assert len(card_defaults.decodes(512, speculative=False)) == 52
    assert card_defaults.decodes(0, speculative=False) == ()
    assert len(card_defaults.prefills(8192)) == 58
    assert len(card_defaults.prefills(16_384)) == 74


# Pools, from the available memory that logs print


def rest(after, usage, share):
    """Bytes: free now, less what the share leaves of what was free."""
    return int((after - (after + usage) * (1 - share)) * GIB)


def of(mixer, count):
    return [Layer(mixers=(mixer,))] * count


def heads(kv_heads, dim, window=None):
    return Attention(
        heads=2 * kv_heads, kv_heads=kv_heads, key_dim=dim, value_dim=dim, window=window
    )


def test_logged_hybrid():
    """LFM2-700M, sglang 0.5.6 on 16 GB: 85,292 states and 473,854 tokens, of 13.81 GB free."""
    model = of(heads(8, 64), 6) + of(ShortConv(width=1536, kernel=3), 10)
    s = SglangCacheSetting(context=128_000, model_type="lfm2", version=(0, 5, 6))
    found = fitting(model, s, rest(13.81, 1.52, 0.771))
    assert found.slots == pytest.approx(85_292, rel=0.001)
    assert found.full == pytest.approx(473_854, rel=0.001)


@pytest.mark.parametrize(
    ("after", "usage", "share", "tokens", "layers", "kv_heads"),
    [
        (8.37, 14.39, 0.88, 105_531, 28, 4),  # DeepSeek-R1-Distill-Qwen-7B, 0.4.2
        (6.09, 15.54, 0.85, 46_611, 64, 2),  # QwQ-32B, a rank of four, 0.4.3
        (63.48, 15.11, 0.88, 442_750, 32, 8),  # Llama-3.1-8B, April 2025
    ],
)
def test_logged_pools(after, usage, share, tokens, layers, kv_heads):
    s = SglangCacheSetting(context=131_072, version=(0, 4, 3))
    found = fitting(of(heads(kv_heads, 128), layers), s, rest(after, usage, share))
    assert found.full == pytest.approx(tokens, rel=0.003)  # two digits are printed


def test_windows_have_a_pool_since():
    """gpt-oss: one pool until 0.5.8. Gemma 4: since 0.5.11."""
    model = of(heads(8, 64), 12) + of(heads(8, 64, window=128), 12)
    old = cells(model, SglangCacheSetting(context=1, model_type="gpt_oss", version=(0, 5, 7)))
    new = cells(model, SglangCacheSetting(context=1, model_type="gpt_oss", version=(0, 5, 8)))
    assert (old.full, old.sliding) == (24 * 2048, 0)
    assert (new.full, new.sliding) == (12 * 2048, 12 * 2048)


def test_cells_rounded_before_bytes_were_split():
    """Until 0.5.10 the budget was whole cells of all layers: here 10 of 96 bytes, then 60 a token."""
    model = of(heads(1, 12), 1) + of(heads(1, 12, window=4), 1)
    ratio = Fraction(1, 4)
    old = SglangCacheSetting(context=1, version=(0, 5, 10), swa_full_tokens_ratio=ratio)
    new = SglangCacheSetting(context=1, version=(0, 5, 11), swa_full_tokens_ratio=ratio)
    assert fitting(model, old, 1019).full == 960 // 60
    assert fitting(model, new, 1019).full == 1019 // 60 == 16


def test_states_tracked_since():
    """Five slots a request since 0.5.14, where the model's kernels can; one without a cache."""

    def slots(**more):
        return SglangCacheSetting(context=1, **more).slots

    assert slots(model_type="qwen3_next") == 5
    assert slots(model_type="qwen3_next", version=(0, 5, 12)) == 3
    assert slots(model_type="lfm2") == 3
    assert slots(model_type="qwen3_next", radix_cache=False) == 1


def test_a_limit_of_requests_sizes_the_window():
    """4 + 128 + 2 pages a request, two chunks, one page; the rest is the full pool's."""
    model = of(heads(1, 16), 1) + of(heads(1, 16, window=4), 1)
    s = SglangCacheSetting(
        context=4096, radix_cache=False, max_running_requests=3, chunked_prefill_size=100
    )
    cap = 3 * (4 + 128 + 2) + 200 + 1
    assert fitting(model, s, 64 * cap + 640) == Pools(full=10, sliding=cap, slots=0)
    assert caches.needed(model, s)[0].sliding == cap


# Weights, as "mem usage" of the load


QWEN_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
QWEN_32B = QWEN_7B | {
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
}


@pytest.mark.slow
def test_logged_weights():
    """One card, and one of four: 12.5 MiB matrices take 14 MiB segments there."""
    alone = served(of_config(QWEN_7B), engine_version="0.4.2", context=131_072)
    assert load_gib(alone) == pytest.approx(14.39, rel=0.005)
    shared = served(of_config(QWEN_32B), engine_version="0.4.3", tensor_parallel_size=4)
    assert load_gib(shared) == pytest.approx(15.54, rel=0.002)


@pytest.mark.slow
def test_logged_from_nothing():
    """Model, flags and card alone: 442,750 tokens on an H100."""
    found = served("llama-3.1-8b", gpu="h100", context=131_072, engine_version="0.4.5")
    assert load_gib(found) == pytest.approx(15.11, rel=0.02)
    assert found.derived["kv_cache_tokens"] == pytest.approx(442_750, rel=0.02)
    assert found.settings["mem_fraction_static"] == 0.88


@pytest.mark.slow
def test_gemma_embeds_on_every_rank():
    """torch's own Embedding: 262,144 rows of 2,816 are whole on both ranks."""
    alone = served("gemma-4-26b-a4b")
    half = served("gemma-4-26b-a4b", tensor_parallel_size=2)
    least = (part(alone.devices[0].phases[0], "weights") + 262_144 * 2816 * 2) // 2
    assert part(half.devices[0].phases[0], "weights") > least
    assert part(half.devices[0].phases[0], "weights") < least + 64 * MIB


# Answers


def test_needed_by_hand():
    """Llama-3.1-8B, four requests of 4,096 tokens: cells, a row of the table for 2,048."""
    found = served("llama-3.1-8b", batch_size=4, context=4096)
    phase = found.devices[0].phases[-1]
    whole = (
        part(phase, "kv_cache")
        - part(phase, "kv_cache", "table")
        - part(phase, "kv_cache", "lists")
    )
    assert whole == (4 * 4096 + 1) * 131_072
    assert part(phase, "kv_cache", "table") == 2049 * (4096 + 4) * 4
    assert part(phase, "kv_cache", "lists") == 4 * 4096 * 8
    assert found.devices[0].taken is None
    assert "kv_cache_tokens" not in found.derived
    assert found.derived["kv_cache_bytes_per_token"] == 131_072


def test_prefixes_are_stored_once():
    apart = served("llama-3.1-8b", batch_size=4, context=4096)
    shared = served("llama-3.1-8b", batch_size=4, context=4096, shared_prefix=1024)
    plain = served(
        "llama-3.1-8b", batch_size=4, context=4096, shared_prefix=1024, disable_radix_cache=True
    )
    sizes = [part(a.devices[0].phases[-1], "kv_cache") for a in (apart, shared, plain)]
    assert sizes[0] - sizes[1] == 3 * 1024 * (131_072 + 8)
    assert sizes[2] == sizes[0]


def test_a_prefix_is_no_longer_than_the_text():
    """No request shares more than it has: then one of them is all that is stored."""
    w = {"batch_size": 4, "context": 512, "gpu": "4090"}
    whole, more = (served("llama-3.1-8b", **w, shared_prefix=n) for n in (512, 8192))
    assert more.devices[0].phases == whole.devices[0].phases
    alone = served("llama-3.1-8b", **(w | {"batch_size": 1}))
    kept = [part(found.devices[0].phases[1], "kv_cache") for found in (more, alone)]
    assert kept[0] - kept[1] < 2**20, "but for the table of requests"


def test_outside_of_the_share():
    """FlashInfer's workspace on Ada, none of FA3 on Hopper; no graphs where none are captured."""
    ada = served("llama-3.1-8b", gpu="4090").devices[0].phases[-1]
    hopper = served("llama-3.1-8b", gpu="h100").devices[0].phases[-1]
    bare = served("llama-3.1-8b", gpu="h100", disable_cuda_graph=True).devices[0].phases[-1]
    assert part(ada, "workspaces", "attention") == 384 * MIB
    assert part(hopper, "workspaces", "attention") == 0
    assert part(hopper, "workspaces", "cuBLAS") == 32 * MIB
    assert part(hopper, "cuda_graphs") > part(bare, "cuda_graphs") == 0
    assert card_defaults.workspace("flashinfer", ("Qwen2ForCausalLM",)) == 512 * MIB


def test_chunks():
    """Prompts that are cut, and that are not: 14,336 numbers of the gated feed-forward, thrice."""
    width = (3 * 4096 + 3 * 14_336) * 2
    usual = {"gpu": "4090", "disable_cuda_graph": True, "context": 32_768}
    usual |= {"mem_fraction_static": 0.9}  # the default would leave 24 GiB for a prompt
    cut = served("llama-3.1-8b", **usual, chunked_prefill_size=2048).devices[0].phases[1]
    whole = served("llama-3.1-8b", **usual, chunked_prefill_size=-1).devices[0].phases[1]
    short = served("llama-3.1-8b", gpu="4090", disable_cuda_graph=True, context=100)
    assert part(cut, "activations") == 2048 * width
    assert part(whole, "activations") == 32_768 * width
    assert part(short.devices[0].phases[1], "activations") == 100 * width


def test_taken():
    """More than is needed, less than the card."""
    found = served("llama-3.1-8b", gpu="h100")
    device = found.devices[0]
    assert device.peak("driver").high < device.taken < 80 * GIB
    told = found.derived
    assert told["max_concurrency"] == pytest.approx(told["kv_cache_tokens"] / 4096)
    assert told["available_kv_cache_bytes"] // 131_072 == told["kv_cache_tokens"]


def test_nothing_left():
    found = served("llama-3.1-8b", gpu="4090", mem_fraction_static=0.5)
    assert found.derived["kv_cache_tokens"] == 0
    assert found.devices[0].taken is None
    assert "would have to be above" in found.warnings[0]


def line(flags, gpu="4090"):
    command = f"sglang serve --model-path meta-llama/Llama-3.1-8B {flags}"
    return weighbridge.infer(command=command, gpu=gpu, offline=True)


def test_a_line_starts_with_whatever_pool_is_left():
    """sglang 0.5.23 srt/managers/tp_worker.py: max_req_len is min(context, pool) - 1, and a pool that
    is smaller than the context is "not an error"."""
    found = line("")
    assert found.verdict.fits == "yes"
    longest = found.derived["longest_request"]
    assert longest < found.derived["kv_cache_tokens"] < 131_072
    assert found.verdict.reason.startswith(f"requests up to {longest:,} tokens: ")
    assert any(w.startswith(f"requests up to {longest:,} tokens") for w in found.warnings)
    capped = line("--max-total-tokens 10000")
    assert capped.derived["longest_request"] == 9_999
    assert capped.peak.expected < found.peak.expected


def test_a_line_whose_pool_holds_the_context_is_not_capped():
    assert "longest_request" not in line("--context-length 8192").derived
    assert "longest_request" not in line("--context-length 8192 --max-total-tokens 8192").derived
    assert "longest_request" not in line("", gpu="h100").derived
    short = line("--context-length 8192 --max-total-tokens 8000")
    assert (short.verdict.fits, short.derived["serves_as_asked"]) == ("no", False)


@pytest.mark.slow
def test_a_line_that_leaves_no_pool_does_not_start():
    """A prompt leaves five tokens of the longest request; without a prompt there is no server."""
    assert line("--max-total-tokens 7").derived["longest_request"] == 6
    for flags in ("--max-total-tokens 6", "--mem-fraction-static 0.5"):
        found = line(flags)
        assert found.verdict.fits == "no"
        assert "longest_request" not in found.derived


@pytest.mark.slow
def test_amds_cards_are_within_a_hundredth():
    """Rules of memory are CUDA's: no pool of AMD's is sure, and none is surely empty, within 1 % of
    the card."""
    model = weighbridge.prepare("llama-3.1-8b")

    def first(gpu, *answers):
        """The least fraction, in thousandths, of which one of these is said."""
        low, high = 20, 900
        while low < high:
            share = (low + high) // 2
            line = f"sglang serve --model-path llama-3.1-8b --mem-fraction-static {share / 1000}"
            found = model.infer(command=line, gpu=gpu, remedies=False)
            low, high = (low, share) if found.verdict.fits in answers else (share + 1, high)
        return low

    for gpu, least, most in (("mi300x", 20, 28), ("h200", 0, 8)):
        assert least <= first(gpu, "yes") - first(gpu, "yes", "unknown") <= most


def test_requests_that_are_typed_beside_a_line_have_their_length():
    found = weighbridge.infer(
        command="sglang serve --model-path meta-llama/Llama-3.1-8B",
        gpu="4090",
        batch_size=1,
        offline=True,
    )
    assert found.verdict.fits == "no"


def test_a_cap_on_tokens():
    found = served("gpt-oss-20b", gpu="h100", max_total_tokens=10_000)
    assert found.derived["kv_cache_tokens"] == 10_000
    assert found.derived["swa_max_total_num_tokens"] == 8_000


def test_replicas_and_stages():
    two = served("llama-3.1-8b", gpu="h100:2", data_parallel_size=2, batch_size=4)
    one = served("llama-3.1-8b", gpu="h100", batch_size=2)
    assert [d.kind for d in two.devices] == ["gpu", "gpu", "host"]
    assert two.devices[0].phases == two.devices[1].phases == one.devices[0].phases
    assert two.derived["kv_cache_tokens"] == 2 * one.derived["kv_cache_tokens"]
    staged = served("llama-3.1-8b", pipeline_parallel_size=2)
    first, last = staged.devices[0].phases[-1], staged.devices[1].phases[-1]
    assert part(first, "logits") == 0 < part(last, "logits")
    assert staged.derived["kv_cache_bytes_per_token"] == 131_072


# Attention in data-parallel groups


def groups(number, name="deepseek-v3", **more):
    w = {"tensor_parallel_size": 8, "context": 8192, "batch_size": 16, "gpu": "h200:8"}
    if number > 1:
        w |= {"data_parallel_size": number, "enable_dp_attention": True}
    return served(name, **(w | more))


def test_groups_have_attention_and_pools_each():
    """DeepSeek-V3 on eight: whole attention and embedding in each group, an eighth of the experts
    and of the head; a token is in one pool instead of in eight."""
    one, eight = groups(1), groups(8)
    assert [d.kind for d in eight.devices] == ["gpu"] * 8 + ["host"]
    assert one.derived["kv_cache_bytes_per_token"] == 8 * 61 * 1152
    assert eight.derived["kv_cache_bytes_per_token"] == 61 * 1152
    tokens = eight.derived["max_total_num_tokens"]
    assert eight.derived["kv_cache_tokens"] == 8 * tokens
    assert eight.settings["chunked_prefill_size"] == 1024
    assert one.settings["chunked_prefill_size"] == 8192
    launch = eight.derived["launch"]
    assert "--tp-size 8 --dp-size 8 --enable-dp-attention" in launch


def test_what_a_group_holds_more():
    """Llama 3.1 70B on four ranks in two groups: half of attention and of the embedding instead of
    a quarter; the feed-forward and the head stay quarters."""
    w = {"tensor_parallel_size": 4, "context": 4096, "gpu": "4x h100"}
    apart = served("llama-3.1-70b", **w, data_parallel_size=2, enable_dp_attention=True)
    usual = served("llama-3.1-70b", **w)
    attention = 80 * (8192 * (8192 + 2 * 1024) + 8192 * 8192)
    more = (attention + 128_256 * 8192) * 2 // 4
    weights = [part(a.devices[0].phases[0], "weights") for a in (usual, apart)]
    assert weights[1] - weights[0] == more


def test_groups_cost_some_of_the_share():
    """3 MiB a captured request and group, 4.5 above 300 requests; 4 GiB before 0.5.3."""
    usual = {"largest": 256, "tensor": 8, "chunk": 8192}
    one, eight = (asked((0, 5, 23), 143_771, groups=n, **usual) for n in (1, 8))
    lost = (card_defaults.fraction(one) - card_defaults.fraction(eight)) * 143_771
    assert lost == pytest.approx(256 * 8 * 3, abs=3 * 144)  # the former is at its floor of 10 GiB
    wide = asked((0, 5, 23), 143_771, groups=8, **(usual | {"largest": 512}))
    kept = 512 + 12_288 + 1024 + 1024 + 512 * 8 * 4.5
    assert card_defaults.fraction(wide) == pytest.approx(round((143_771 - kept) / 143_771, 3))
    old = [card_defaults.fraction(asked((0, 5, 2), 143_771, groups=n)) for n in (1, 8)]
    assert old[0] - old[1] == pytest.approx(4096 / 143_771, abs=0.001)


def test_groups_divide_the_ranks():
    with pytest.raises(UsageError, match="--dp-size 3 does not divide --tp-size 8"):
        groups(3)


def test_tokens_of_all_groups_meet_at_the_experts():
    """Counted by hand: two groups of one rank each, a feed-forward of 16 over two, 8 wide."""
    block = LayerBlock(mixers=(), feeds=(Dense(width=16),))
    assert chunk((block,), 8, RankSplit(tensor=2)).widest == 24 + 24
    assert chunk((block,), 8, RankSplit(tensor=2, groups=2)).widest == 24 + 2 * 24 + 8


def test_the_table_of_a_long_context_is_what_a_run_died_of():
    """Llama 4 Scout, whose context is 10,485,760 tokens, on eight H100: "Tried to allocate 80.04
    GiB" (sgl-project/sglang issue 5755)."""
    found = served("llama-4-scout", gpu="h100", engine_version="0.4.6", context=10_485_760)
    table = part(found.devices[0].phases[-1], "kv_cache", "table of requests")
    assert round(table / GIB, 2) == 80.04


@all_of(
    ("version", "chunked", "windows", "count"),
    [
        ((0, 4, 5), True, False, 2),
        ((0, 4, 6), True, False, 3),
        ((0, 4, 6), False, False, 2),
        ((0, 5, 2), False, True, 2),
        ((0, 5, 3), False, True, 1),
        ((0, 5, 8), False, True, 2),
        ((0, 5, 8), True, True, 3),
    ],
)
def test_tables_of_pages_of_captured_batches(version, chunked, windows, count):
    """srt/layers/attention/flashattention_backend.py, init_cuda_graph_state, of each release."""
    asked = {"chunked": chunked, "windows": windows}
    assert card_defaults.tables(rules(version), "fa3", **asked) == count
    assert card_defaults.tables(rules(version), "flashinfer", **asked) == 1
    assert card_defaults.rows("fa3", 160, 1001, 4, count) == count * 160 * 251 * 4


@pytest.mark.slow
def test_chunks_and_windows_have_tables_of_their_own():
    setting = {"gpu": "h100-80gb:8", "context": 131_072, "tensor_parallel_size": 8}
    for version, tables in (("0.5.2", 3), ("0.5.9", 3), ("0.5.5", 2)):
        found = served("llama-4-scout", engine_version=version, **setting)
        batches = next(
            c for c in found.devices[0].phases[-1].components if c.detail == "captured batches"
        )
        requests = int(batches.formula.split()[0])
        assert f"contexts {tables * requests * 131_072 * 4:,}," in batches.formula, version


def test_towers_may_be_left_out():
    whole, text = (
        served("gemma-3-4b", gpu="h100", context=4096, language_model_only=only)
        for only in (False, True)
    )
    weights = [part(a.devices[0].phases[0], "weights") for a in (whole, text)]
    assert weights[0] - weights[1] == 2 * (416_866_032 + 2_950_272)
    assert text.settings["mem_fraction_static"] > whole.settings["mem_fraction_static"]
    assert "--language-model-only" in text.derived["launch"]


def test_draft_counts():
    """DeepSeek-V3's own layer drafts: a 61st of the cell more, and 48 requests at once."""
    plain = served("deepseek-v3", gpu="h200:8", tensor_parallel_size=8)
    found = served("deepseek-v3", gpu="h200:8", tensor_parallel_size=8, speculative_method="mtp")
    assert found.settings["max_running_requests"] == 48
    assert found.settings["num_speculative_tokens"] == 4
    more = found.derived["kv_cache_bytes_per_token"] - plain.derived["kv_cache_bytes_per_token"]
    assert more == 8 * 1152
    assert "--speculative-algorithm NEXTN" in found.derived["launch"]


def test_adapters():
    found = served("llama-3.1-8b", gpu="h100", max_loras=2, max_lora_rank=16)
    assert part(found.devices[0].phases[0], "adapters") > 0
    assert found.settings["max_loras"] == 2
    with pytest.raises(UsageError, match="max-lora-rank"):
        served("llama-3.1-8b", max_loras=2)


@pytest.mark.slow
def test_formats_of_the_cache():
    """The checkpoint's own format is modelopt's alone; DeepSeek-V3.2's depends on the card."""
    assert served("deepseek-v3.2", gpu="b200:8", tensor_parallel_size=8).settings == (
        served(
            "deepseek-v3.2", gpu="b200:8", tensor_parallel_size=8, kv_cache_dtype="auto"
        ).settings
    )
    found = served("deepseek-v3.2", gpu="b200:8", tensor_parallel_size=8)
    assert found.settings["kv_cache_dtype"] == "fp8_e4m3"
    assert found.settings["page_size"] == 64
    found = served("deepseek-v3.2", gpu="h200:8", tensor_parallel_size=8)
    assert found.settings["kv_cache_dtype"] == "bfloat16"
    scheme = {"type": "float", "num_bits": 8}
    for method, kind in (("modelopt", "fp8_e4m3"), ("compressed-tensors", "auto")):
        assert _declared({"quant_method": method, "kv_cache_scheme": scheme}) == kind
    assert _declared({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}) == "fp8_e4m3"


def _declared(raw):
    return "fp8_e4m3" if effective._declares_fp8(raw) else "auto"


def test_pages():
    assert card_defaults.page("trtllm_mha", None) == 64
    assert card_defaults.page("trtllm_mha", 32) == 32
    assert card_defaults.page("flashmla", 1) == 64
    assert card_defaults.page("fa3", 16) == 16
    assert card_defaults.page("fa3", None) == 1
    assert card_defaults.major((9, 0)) == 9
    assert card_defaults.major(None) == 0


def test_embedding_models():
    found = served("bge-m3", gpu="4090")
    assert [p.name for p in found.devices[0].phases] == ["load", "prefill"]
    assert "--is-embedding" in found.derived["launch"]
    assert part(found.devices[0].phases[-1], "cuda_graphs") == 0


def test_launch():
    found = served(
        "llama-3.1-8b", gpu="h100:2", tensor_parallel_size=2, context=8192, disable_cuda_graph=True
    )
    assert found.derived["launch"] == (
        "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --context-length 8192 "
        "--tp-size 2 --disable-cuda-graph"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"swa_full_tokens_ratio": 1.5}, "swa-full-tokens-ratio"),
        ({"mem_fraction_static": 1.0}, "between 0 and 1"),
        ({"kv_cache_dtype": "q8_0"}, "kv-cache-dtype"),
    ],
)
def test_wrong_values(settings, said):
    with pytest.raises(UsageError, match=said):
        served("llama-3.1-8b", **settings)


def test_not_covered():
    with pytest.raises(UnsupportedError, match="attention to an encoder"):
        served("whisper-tiny")
    with pytest.raises(UnsupportedError, match="its layers are not known"):
        served("7B")


# Steps


def test_widths_by_hand():
    """Hidden 8: an attention of 4 heads of 2 over 2; a feed-forward of 16; 2 of 4 experts of 10."""
    attention = Attention(heads=4, kv_heads=2, key_dim=2, value_dim=2)
    dense = LayerBlock(mixers=(attention,), feeds=(Dense(width=16),))
    assert chunk((dense,), 8, RankSplit()).widest == 24 + 48
    assert chunk((dense,), 8, RankSplit()).with_cached == 24 + 48 + 24
    assert chunk((dense,), 8, RankSplit(tensor=2)).widest == 24 + 24
    sparse = LayerBlock(
        mixers=(attention,), feeds=(Experts(count=4, top_k=2, width=10, shared=10),)
    )
    rows = 2 * (20 + 10) + 2 * 4 + 30 + 8
    assert chunk((sparse,), 8, RankSplit()).widest == 24 + rows
    assert chunk((sparse,), 8, RankSplit(tensor=2)).widest == 24 + 2 * (10 + 5) + 8 + 15 + 8
    by_number = RankSplit(tensor=2, expert_parallel=True)
    assert chunk((sparse,), 8, by_number).widest == 24 + 2 * (20 + 10) + 8 + 15 + 8


def test_widths_of_latents_and_sharers():
    latent = Latent(heads=2, rank=8, rotary=2, nope=4, value_dim=4)
    block = LayerBlock(mixers=(latent,), query_rank=6)
    assert chunk((block,), 8, RankSplit()).widest == 24 + 2 * (12 + 4 + 8) + 10 + 6
    assert chunk((block,), 8, RankSplit(tensor=2)).widest == 24 + 24 + 10 + 6
    owner = LayerBlock(mixers=(Attention(heads=4, kv_heads=2, key_dim=2, value_dim=2),))
    sharer = LayerBlock(mixers=(Shared(owner=0),))
    assert chunk((sharer,), 8, RankSplit()).widest == 24
    assert chunk((owner, sharer), 8, RankSplit()).widest == 24 + 24


def test_tower_by_hand():
    t = Tower(
        kind="image",
        hidden=8,
        heads=2,
        head_dim=4,
        layers=1,
        feed=Dense(width=16, gated=False),
        positions=10,
        tokens=5,
        patch=3,
    )
    assert tower(t, RankSplit()) == 10 * (24 + 32 + 3)


# Laws


@pytest.mark.slow
@given(
    layers=st.lists(st.builds(Layer, mixers=st.tuples(PLAIN | SLIDING)), min_size=1, max_size=6),
    gib=st.integers(1, 40),
    page=st.sampled_from((1, 16, 64)),
)
@settings(max_examples=60, deadline=None)
def test_pools_stay_within_what_is_available(layers, gib, page):
    s = SglangCacheSetting(context=4096, page_size=page)
    c = cells(layers, s)
    found, more = fitting(layers, s, gib * GIB), fitting(layers, s, (gib + 1) * GIB)
    used = found.full * c.full + found.sliding * c.sliding
    assert used <= gib * GIB < used + 2 * (page + 1) * (c.full + c.sliding)
    assert more.full >= found.full
    assert more.sliding >= found.sliding
    assert sum(buffers(layers, s, found)) == found.sizes(c, page).kv


@pytest.mark.slow
@given(batch=st.integers(1, 8), context=st.integers(1, 5000), tensor=st.sampled_from((1, 2, 4, 8)))
@settings(max_examples=25, deadline=None)
def test_answers_obey(batch, context, tensor):
    """Phases never exceed the peak; ranks hold at least the whole; more requests never less."""
    usual = {"context": context, "tensor_parallel_size": tensor}
    found = served("llama-3.1-8b", batch_size=batch, **usual)
    more = served("llama-3.1-8b", batch_size=batch + 1, **usual)
    alone = served("llama-3.1-8b", batch_size=batch, context=context)
    device = found.devices[0]
    assert all(p.at("driver").high <= device.peak("driver").high for p in device.phases)
    assert more.devices[0].peak("driver").expected >= device.peak("driver").expected
    for name in ("weights", "kv_cache"):
        ranks = sum(part(d.phases[-1], name) for d in found.devices[:-1])
        assert ranks >= part(alone.devices[0].phases[-1], name)


@pytest.mark.parametrize(("gb", "written"), [(4.0, "4"), (2e6, "2000000"), (4.5, "4.5")])
def test_a_line_gives_whole_gb_as_an_integer(gb, written):
    line = served("qwen3-0.6b", cpu_offload_gb=gb).derived["launch"]
    assert f"--cpu-offload-gb {written} " in f"{line} "


def test_weights_in_host_memory():
    """8 GiB of Llama 3.1 8B's layers: 218.1 million numbers each, so that 19 whole layers and some
    of the next are away; one layer is copied back while it runs."""
    plain, away = (
        served("llama-3.1-8b", cpu_offload_gb=n, gpu="A100 80GB", context=4096) for n in (0, 8)
    )

    def held(found, name, detail=""):
        return part(found.devices[0].phases[1], name, detail)

    layer = 2 * (4096 * (4096 * 2 + 1024 * 2) + 3 * 4096 * 14_336 + 2 * 4096)
    moved = held(plain, "weights") - held(away, "weights")
    assert 8 * GIB <= moved < 8 * GIB + 2 * 4096 * 2 * 14_336
    assert held(away, "temporaries", "offloaded") == layer
    assert held(plain, "temporaries", "offloaded") == 0
    host = next(c for c in away.devices[-1].phases[0].components if c.detail == "offloaded")
    assert host.bytes.low == moved
    # queries, keys and values of 48 MiB are in 64, the MLP's 224 and 112 in 256 and 128
    assert host.bytes.expected / moved == pytest.approx(480 / 416, rel=0.02)
    room = [a.derived["available_kv_cache_bytes"] for a in (plain, away)]
    assert room[1] - room[0] == pytest.approx(moved, rel=0.01)


@pytest.mark.parametrize(
    ("version", "major", "nbytes"),
    [((0, 5, 14), 9, 4), ((0, 5, 23), 9, 1), ((0, 5, 23), 12, 1), ((0, 5, 23), 10, 4)],
)
def test_scales_of_experts_in_four_bits_by_card(version, major, nbytes):
    """srt/layers/quantization/mxfp4_flashinfer_{cutlass,trtllm}_moe.py, create_weights."""
    assert split_rules(version, major=major).mixed_scale == nbytes


def test_a_blackwell_card_holds_scales_in_float32():
    asked = {"tensor_parallel_size": 4, "context": 4096, "engine_version": "0.5.23"}
    hopper, blackwell = (
        served("deepseek-v4-flash", gpu=f"{gpu}:4", **asked).devices[0].phases[0]
        for gpu in ("h200", "b200")
    )
    experts = 43 * 256 * 3 * 4096 * 2048 / 4
    more = part(blackwell, "weights") - part(hopper, "weights")
    assert more == pytest.approx(experts * 3 / 32, rel=0.01)


@pytest.mark.slow
def test_experts_in_four_bits_beside_float8_have_scales_in_float32():
    """Before 0.5.16 0.625 byte a weight, not 0.53125. DeepSeek-V4-Pro on eight ranks of Hopper took
    125.65 GiB of each under 0.5.14 ("mem usage" of its log). --mem-fraction-static 0.88 left
    nothing then, and no log tells of a newer release there."""
    asked = {"engine": "sglang", "tensor_parallel_size": 8, "gpu": "h200:8", "context": 4096}
    old, new = (
        answer("deepseek-v4-pro", engine_version=number, **asked).devices[0].phases[0]
        for number in ("0.5.15", "0.5.16")
    )
    experts = 61 * 384 * 3 * 7168 * 3072 / 8
    assert part(old, "weights") - part(new, "weights") == pytest.approx(experts * 3 / 32, rel=1e-3)
    counted = [c.bytes for c in old.components if c.name in ("weights", "fragmentation")]
    low, _, high = (sum(bound) / GIB for bound in zip(*counted, strict=True))
    assert low < 125.65 <= high + 0.2
    assert part(new, "fragmentation", "made anew") == 0
    for number, surely in (("0.5.15", "no"), (None, "unknown")):
        w = asked | {"mem_fraction_static": 0.88, "engine_version": number}
        assert answer("deepseek-v4-pro", **w).serves.surely == surely


@pytest.mark.parametrize(
    ("release", "flag"),
    [(None, "--cuda-graph-max-bs-decode 8"), ("0.5.2", "--cuda-graph-max-bs 8")],
)
def test_the_largest_graph_is_that_of_decode_by_the_newest_release(release, flag):
    asked = {"engine": "sglang", "engine_version": release, "cuda_graph_max_bs": 8}
    report = weighbridge.infer("qwen3-0.6b", **asked)
    assert flag in report.derived["launch"]


def test_layers_that_share_keys_have_places_in_the_pools():
    """Gemma 4 E4B: 7 of 42 layers see all tokens (2 heads of 512, keys and values, 2 bytes), 35 a
    window (2 heads of 256). 18 of them read what others store; two start-up logs have pools of
    all. Gemma 3n has 30 layers of 2 heads of 256, and no second pool."""
    found = {}
    for name in ("gemma-4-e4b", "gemma-3n-e2b"):
        kind = answer(name, engine="sglang", context=4096, gpu="H100")
        found[name] = [c.formula for c in kind.devices[0].phases[1].components if "kv" in c.name]
    assert "x 28,672 bytes" in found["gemma-4-e4b"][0] and "x 71,680" in found["gemma-4-e4b"][0]
    assert f"x {30 * 2 * 2 * 256 * 2:,} bytes" in found["gemma-3n-e2b"][0]


@pytest.mark.parametrize(
    ("context", "version", "backend", "kept"),
    [
        (8192, "0.5.19", None, 1),
        (8193, "0.5.19", None, 0.85),
        (8193, "0.4.6", None, 1),
        (8193, "0.4.7", None, 0.85),
        (8193, "0.5.19", "triton", 1),
    ],
)
def test_aiter_leaves_a_part_of_the_share(context, version, backend, kept):
    """287.3 GiB of an MI355X were free, and 79.8 left out: 1 - 0.85 x 0.85."""
    w = {"context": context, "engine_version": version, "attention_backend": backend}
    w |= {"gpu": "MI300X", "mem_fraction_static": 0.8}
    told = [
        answer("llama-3.1-8b", engine="sglang", **(w | changed)).derived
        for changed in ({}, {"attention_backend": "triton"})
    ]
    less = told[1]["available_kv_cache_bytes"] - told[0]["available_kv_cache_bytes"]
    free = answer("llama-3.1-8b", engine="sglang", **(w | {"mem_fraction_static": 0.9})).derived
    tenth = (free["available_kv_cache_bytes"] - told[0]["available_kv_cache_bytes"]) / kept
    assert less / tenth == pytest.approx(8 * (1 - kept), abs=0.01)


@pytest.mark.parametrize(
    ("name", "tensor", "backend"),
    [("deepseek-v3", 8, "aiter"), ("deepseek-v3", 4, "triton"), ("deepseek-v2-lite", 1, "aiter")],
)
def test_aiter_has_latents_of_16_or_128_heads(name, tensor, backend):
    w = {"gpu": f"MI300X:{tensor}", "tensor_parallel_size": tensor, "context": 8192}
    found = answer(name, engine="sglang", quantization=None, **w)
    assert found.settings["attention_backend"] == backend


@pytest.mark.slow
def test_an_exchange_of_experts_that_is_not_counted_leaves_the_verdict_open():
    """sglang issue 23769: a line with DeepEP that ran out of memory with room by our count."""
    line = "python -m sglang.launch_server --model-path qwen3-30b-a3b --tp 2 --dp 2 --enable-dp-attention"
    assert weighbridge.infer(command=line, gpu="h200:2").verdict.fits == "yes"
    verdict = weighbridge.infer(command=f"{line} --moe-a2a-backend deepep", gpu="h200:2").verdict
    assert verdict.fits == "unknown"
    assert "buffers of the exchange of experts are not modelled" in verdict.reason


def test_the_part_that_aiter_leaves_is_no_sure_no_with_latents():
    line = "SGLANG_USE_AITER=1 sglang serve --model-path moonshotai/Kimi-K2.5 --tp 4 --trust-remote-code"
    verdict = weighbridge.infer(command=line, gpu="mi300x:4", offline=True).verdict
    assert verdict.fits == "unknown"
    assert "of which aiter leaves 0.85" in verdict.reason
