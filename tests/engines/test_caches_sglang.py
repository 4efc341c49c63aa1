"""SGLang's pools: logged sizes, published figures, edges by hand."""

from fractions import Fraction
from itertools import product
from math import ceil

import pytest

from tests.cases import all_of
from tests.engines.answers import answer, part
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.sglang.caches import (
    Pools,
    SglangCacheSetting,
    buffers,
    caches,
    cells,
    fitting,
    needed,
    request_table,
)
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Attention, Latent, Layer, Mamba1
from weighbridge.models.catalogue import find


def named(name):
    return layers(Config(find(name).config))


def test_states_of_qwen3_next():
    """Convolution in bfloat16, state in float32."""
    found = cells(named("qwen3-next-80b-a3b"), SglangCacheSetting(context=262_144))
    assert found.state == 36 * 2_146_304
    assert round(found.state / MIB, 2) == 73.69
    assert found.full * 262_144 == 6 * GIB


LOGGED = [  # two ranks: model, pool, tokens, GB as printed (they are GiB)
    ("gemma-4-26b-a4b", "full", 815_815, 7.78),
    ("gemma-4-26b-a4b", "sliding", 24_474, 2.34),
    ("gemma-4-26b-a4b", "full", 530_280, 5.06),
    ("gemma-4-26b-a4b", "sliding", 94_272, 9.0),
    ("gemma-4-31b", "full", 167_877, 6.40),
    ("gemma-4-31b", "sliding", 5_036, 1.92),
    ("gemma-4-31b", "full", 62_354, 2.38),
    ("gemma-4-31b", "sliding", 15_588, 5.94),
]


@all_of(("name", "which", "tokens", "gib"), LOGGED)
def test_logged_pools(name, which, tokens, gib):
    """ "KV Cache is allocated. #tokens: ..., K size: ..., V size: ..." """
    found = cells(named(name), SglangCacheSetting(context=262_144, tensor_parallel=2))
    assert abs(tokens * getattr(found, which) / GIB - gib) < 0.011  # two figures, rounded apart


@pytest.mark.parametrize(
    ("ratio", "full", "sliding"), [("0.03", 815_815, 24_474), ("0.5", 176_760, 88_380)]
)
def test_logged_ratio(ratio, full, sliding):
    """The sliding pool follows the full one by --swa-full-tokens-ratio."""
    share = Fraction(ratio)
    own = SglangCacheSetting(context=262_144, tensor_parallel=2, swa_full_tokens_ratio=share)
    model = named("gemma-4-26b-a4b")
    c = cells(model, own)
    available = int(full * (c.full + share * c.sliding)) + 1
    assert fitting(model, own, available) == Pools(full=full, sliding=sliding, slots=0)


@all_of(
    ("name", "kind", "nbytes"),
    [
        ("deepseek-v3", "auto", 70_272),
        ("deepseek-v3", "fp8_e4m3", 35_136),
        ("deepseek-v3.2", "fp8_e4m3", 48_068),
        ("deepseek-v3.2", "auto", 61 * (1152 + 132)),
        ("llama-3.1-8b", "auto", 131_072),
        ("llama-3.1-8b", "fp8_e5m2", 65_536),
    ],
)
def test_bytes_a_token(name, kind, nbytes):
    assert cells(named(name), SglangCacheSetting(context=1, kv_cache_dtype=kind)).full == nbytes


def test_windows_without_a_pool_of_their_own():
    """Gemma 3 keeps all tokens in all layers; Llama 4's chunks have a pool, the ratio as long."""
    gemma = cells(named("gemma-3-27b"), SglangCacheSetting(context=1, model_type="gemma3"))
    assert gemma.full * 32_768 == 15.5 * GIB
    llama = cells(named("llama-4-maverick"), SglangCacheSetting(context=1, model_type="llama4"))
    assert (llama.full, llama.sliding) == (12 * 4096, 36 * 4096)


def test_the_table_of_requests():
    """engines.md 3.3: 2,048 requests of 131,072 tokens."""
    assert (
        request_table(SglangCacheSetting(context=131_072, max_running_requests=2048))
        == 2049 * 131_072 * 4
    )


FULL = Attention(heads=4, kv_heads=2, key_dim=8, value_dim=8)
NEAR = Attention(heads=4, kv_heads=2, key_dim=8, value_dim=8, window=4)
STATE = Mamba1(inner=8, state=4, kernel=4)


def pools(*mixers, **more):
    return needed([Layer(mixers=(m,)) for m in mixers], SglangCacheSetting(context=100, **more))[0]


def test_pools_by_hand():
    assert pools(FULL) == Pools(full=100, sliding=0, slots=3)
    assert pools(FULL, NEAR, sequences=2) == Pools(full=200, sliding=160, slots=6)
    assert pools(NEAR) == Pools(full=100, sliding=100, slots=3)  # nothing to follow
    assert pools(FULL, page_size=64, sequences=2).full == 256
    assert pools(STATE, radix_cache=False, sequences=5).slots == 5


def test_a_page_and_a_slot_more():
    found, c = needed(
        [Layer(mixers=(FULL,)), Layer(mixers=(STATE,))],
        SglangCacheSetting(context=100, page_size=10),
    )
    assert found.sizes(c, 10).kv == 110 * 64
    assert found.sizes(c, 10).state == 4 * (8 * 3 * 2 + 32 * 4)


@pytest.mark.parametrize(("asked", "groups"), [(4, 1), (360, 1), (360, 4)])
def test_states_that_were_asked_for_are_there_whatever_there_is_room_for(asked, groups):
    """Qwen3.8 27B with --max-mamba-cache-size 360 logged 51.76 GiB of states on a GB10 (0.5.19)."""
    model, slots = named("qwen3.8-27b"), asked // groups
    own = SglangCacheSetting(context=8192, states=slots)
    pools = fitting(model, own, 64 * GIB)
    assert pools.slots == slots
    size = cells(model, own).state
    assert size * 361 == pytest.approx(51.76 * GIB, abs=0.005 * GIB)
    more = fitting(model, own, 65 * GIB)
    assert more.slots == slots
    assert more.full > pools.full
    assert needed(model, own)[0].slots == max(slots, own.slots)


def test_states_take_their_share_first():
    """0.9 / 1.9 of the bytes, in whole slots; tokens have the rest."""
    model = [Layer(mixers=(FULL,)), Layer(mixers=(STATE,))]
    found = fitting(model, SglangCacheSetting(context=100), 1_000_000)
    state = 8 * 3 * 2 + 32 * 4
    slots = (int(1_000_000 * 0.9 / 1.9) - state) // state
    assert found.slots == slots
    assert found.full == (1_000_000 - (slots + 1) * state) // 64


def test_latents_are_whole_on_every_rank():
    one = (Layer(mixers=(Latent(heads=8, rank=8, rotary=4, nope=4, value_dim=4),)),)
    assert cells(one, SglangCacheSetting(context=1, tensor_parallel=8)) == cells(
        one, SglangCacheSetting(context=1)
    )


def test_what_our_rules_do_not_cover():
    with pytest.raises(UnsupportedError, match="attention to an encoder"):
        cells(named("whisper-tiny"), SglangCacheSetting(context=1))


def test_components():
    found = caches(named("qwen3-next-80b-a3b"), SglangCacheSetting(context=4096))
    assert [(c.name, c.detail) for c in found] == [
        ("kv_cache", ""),
        ("recurrent_state", ""),
        ("kv_cache", "table of requests"),
    ]


# Compressed attention


FLASH = named("deepseek-v4-flash")
V4 = {
    "model_type": "deepseek_v4",
    "page_size": 256,
    "swa_full_tokens_ratio": Fraction(1, 10),
    "max_running_requests": 256,
}


def test_cells_of_deepseek_v4():
    """Rows of 584 bytes in padded pages: 65 of 576 for 64 rows, 3 for 2, 260 for 256. Beside a
    row for four tokens there is a key of 132; eight rows of 640 keys and gates wait, twice."""
    c = cells(FLASH, SglangCacheSetting(context=4096, **V4))
    fours, many = (65 * 576 / 64 + 132) / 4, 3 * 576 / 2 / 128
    assert c.full == ceil(21 * fours + 20 * many) == 3900
    assert c.sliding == 43 * 260 * 576 // 256 + 21 * 8 * 4 * 640 * 4 // 256 == 31_875
    assert c.state == 20 * 128 * 2 * 512 * 4


def test_pools_of_deepseek_v4():
    """A ring a running request, of 256 unless they are said; the rest is tokens, and a tenth as
    many in the window."""
    s = SglangCacheSetting(context=4096, **V4)
    made = fitting(FLASH, s, 10 << 30)
    assert made.slots == 257
    c = cells(FLASH, s)
    assert (
        fitting(
            FLASH,
            SglangCacheSetting(context=4096, **{**V4, "max_running_requests": None}),
            10 << 30,
        )
        == made
    )
    left = (10 << 30) - 258 * c.state
    assert made.full == int(left / (c.full + 0.1 * c.sliding)) // 256 * 256
    assert made.sliding == made.full // 10 // 256 * 256
    taken = sum(buffers(FLASH, s, made))
    sizes = made.sizes(c, 256)
    assert taken == pytest.approx(sizes.kv + sizes.state, rel=1e-3)


def test_deepseek_v4_is_answered():
    found = answer("deepseek-v4-flash", engine="sglang", tensor_parallel_size=4, gpu="h200:4")
    assert found.settings["page_size"] == 256
    assert found.settings["max_running_requests"] == 256
    assert found.settings["swa_full_tokens_ratio"] == 0.1
    assert part(found.devices[0].phases[0], "weights") / GIB == pytest.approx(36.94, abs=0.01)


@all_of(
    ("asked", "name"),
    product(
        [{}, {"page_size": 16, "tensor_parallel": 2}],
        [
            *("llama-3.1-8b", "gemma-3-4b", "gpt-oss-20b", "deepseek-v3", "qwen3-next-80b-a3b"),
            *("falcon-mamba-7b", "nemotron-nano-12b-v2", "llama-4-scout", "gemma-4-e2b"),
            "deepseek-v4-flash",
        ],
    ),
)
def test_tensors_are_what_the_pools_are_said_to_take(name, asked):
    """Layer by layer, and by the bytes of a token, of one in a window and of a slot."""
    of, s = named(name), SglangCacheSetting(context=4096, sequences=3, **asked)
    for pools in (Pools(full=5000, sliding=700, slots=5), Pools(full=64, sliding=64, slots=1)):
        whole = pools.sizes(cells(of, s), s.page_size)
        assert sum(buffers(of, s, pools)) == whole.kv + whole.state
