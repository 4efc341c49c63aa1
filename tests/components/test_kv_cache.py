"""What caches take at least, by hand: elements of the layers' records x bytes."""

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, FLOAT32, INT8
from weighbridge.memory.components.kv_cache import (
    CacheBytes,
    Format,
    Formats,
    Lengths,
    components,
    heads_token,
    kept_tokens,
    least,
    state,
    total,
)
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Indexer,
    Latent,
    Layer,
    Mamba1,
    Shared,
)

GQA = {"heads": 32, "kv_heads": 8, "key_dim": 128, "value_dim": 64}
INDEX = Indexer(heads=4, dim=128)
MLA = {"heads": 16, "rank": 512, "rotary": 64, "nope": 128, "value_dim": 128}
V4 = {"heads": 64, "dim": 512, "rotary": 64, "window": 128}
STATE = Mamba1(inner=10, state=16, kernel=4)


def bytes_of(mixer, context, **more):
    return least([Layer(mixers=(mixer,))], Lengths(context=context, **more), Formats())


def test_a_run_has_its_scales_beside_it():
    packed = Format(dtype=INT8, beside=4)
    assert packed.size(128) == 132
    assert packed.size(0) == 0
    assert Format(dtype=INT8).size(128) == 128


def test_a_token_of_heads():
    """8 heads x (128 + 64) x 2 bytes; in 8 bits each key and value has its own 4 bytes."""
    assert heads_token(Attention(**GQA), Formats()) == 3072
    eight = Format(dtype=INT8, beside=4)
    assert heads_token(Attention(**GQA), Formats(key=eight, value=eight)) == 8 * (132 + 68)


def test_a_state_is_past_inputs_and_what_recurs():
    """10 channels x 3 inputs of a kernel of 4 in bfloat16, 10 x 16 in float32."""
    assert state(STATE, Formats()) == 60 + 640
    assert state(STATE, Formats(), columns=4) == 80 + 640
    assert state(STATE, Formats(), columns=0) == 640
    assert state(STATE, Formats(conv=FLOAT32, state=BFLOAT16)) == 120 + 320


def test_a_window_is_full_at_its_size():
    assert [kept_tokens(n, 4) for n in (3, 4, 5)] == [3, 4, 4]
    assert kept_tokens(5, None) == 5


@all_of(
    ("mixer", "context", "expected"),
    [
        (Attention(**GQA), 1000, 3_072_000),
        (Attention(**GQA, window=100), 1000, 307_200),
        (Attention(**GQA, window=100, chunk=200), 1000, 614_400),
        (Attention(**GQA, window=100, indexer=INDEX), 1000, 307_200 + 256_000),
        (Latent(**MLA), 1000, 1_152_000),  # (512 + 64) x 2
        (Latent(**MLA, indexer=INDEX), 1000, 1_152_000 + 256_000),
        (Compressed(**V4, rate=1), 1000, 131_072),  # 128 x 512 x 2
        (Compressed(**V4, rate=2), 1000, 131_072 + 512_000),
        (Compressed(**V4, rate=4), 1003, 131_072 + 256_000),  # 250 full groups
        (Compressed(**V4, rate=4, indexer=INDEX), 1000, 131_072 + 256_000 + 64_000),
        (Compressed(**V4, rate=4), 3, 3 * 1024),
        (Shared(owner=0), 1000, 0),
    ],
)
def test_what_a_request_must_have(mixer, context, expected):
    assert bytes_of(mixer, context) == CacheBytes(kv=expected)


def test_states_are_no_cache_and_do_not_grow():
    assert bytes_of(STATE, 1000) == bytes_of(STATE, 1) == CacheBytes(state=700)


@all_of(
    ("source", "length", "positions"),
    [
        ("text", None, 50),
        ("text", 7, 7),
        ("image", None, 150),
        ("image", 7, 21),
        ("audio", None, 50),
    ],
)
def test_what_is_attended_to_beside_the_text(source, length, positions):
    """Each of three images has its own; an encoder's input is one."""
    crossed = CrossAttention(**GQA, source=source, length=length)
    found = bytes_of(crossed, 1000, encoder=50, images=3)
    assert found == CacheBytes(kv=positions * 3072)
    assert Lengths(context=1, encoder=50).crossed(crossed) == positions // (
        3 if source == "image" else 1
    )
    assert Lengths(context=1).encoder == 0


def test_sums_and_multiples():
    one = CacheBytes(kv=3, state=5)
    assert total([one, one, CacheBytes(kv=1)]) == CacheBytes(kv=7, state=10)
    assert one.times(3) == CacheBytes(kv=9, state=15)
    assert total([]) == CacheBytes()


def test_components_are_what_there_is():
    told = components(CacheBytes(kv=3), formula="by hand", source="")
    assert [(c.name, c.bytes.expected) for c in told] == [("kv_cache", 3)]
    told = components(CacheBytes(kv=3, state=5), formula="by hand", source="")
    assert [(c.name, c.bytes.expected) for c in told] == [("kv_cache", 3), ("recurrent_state", 5)]
