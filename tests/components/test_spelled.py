"""Formulas in words are the arithmetic that they spell, or nothing."""

from weighbridge.base.dtypes import BFLOAT16, DType
from weighbridge.memory.components.spelled import cache, each, parameters
from weighbridge.models.arch.mixers import Attention, Latent, Shared

GQA = Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128)
UNEVEN = Attention(heads=32, kv_heads=8, key_dim=128, value_dim=64)
WINDOW = Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128, window=512)
MLA = Latent(heads=16, rank=512, rotary=64, nope=128, value_dim=128)
PACKED = DType("two and a half bits", 2, 5)


def spelled(kinds, nbytes, *tokens, batch=1, dtype=BFLOAT16):
    return cache(kinds, nbytes, batch=batch, tokens=tokens, dtype=dtype)


def test_heads():
    """32 x 2 x 8 x 128 x 2 x 4,096 is 512 MiB."""
    told = "32 layers x 2 x 8 heads x 128 x 2 B x 4,096 tokens"
    assert spelled({GQA: 32}, 512 << 20, 4096) == told
    assert spelled({GQA: 32}, 512 << 20, 4000, 4096) == told, "the first that makes them"
    assert spelled({GQA: 32}, (512 << 20) + 1, 4000, 4096) == ""
    assert spelled({GQA: 32, Shared(owner=0): 2}, 512 << 20, 4096) == told
    assert spelled({Shared(owner=0): 2}, 0, 4096) == ""


def test_requests():
    told = "1 layer x 2 x 8 heads x 128 x 2 B x 10 tokens x 3 requests"
    assert spelled({GQA: 1}, 3 * 40_960, 10, batch=3) == told


def test_unlike_keys_and_values_latents_and_windows():
    """(128 + 64) x 8 x 2 = 3,072 bytes of a token; (512 + 64) x 2 = 1,152; 512 tokens of 4,096."""
    told = "2 layers x 8 heads x (128 + 64) x 2 B x 10 tokens"
    assert spelled({UNEVEN: 2}, 2 * 30_720, 10) == told
    told = "2 layers x (512 + 64) x 2 B x 10 tokens"
    assert spelled({MLA: 2}, 2 * 11_520, 10) == told
    told = "1 layer x 2 x 8 heads x 128 x 2 B x {} tokens{}"
    assert spelled({WINDOW: 1}, 4096 * 512, 4096) == told.format(512, " of the window")
    assert spelled({WINDOW: 1}, 4096 * 512, 512) == told.format(512, "")
    assert spelled({WINDOW: 1}, 4096 * 100, 100) == told.format(100, "")


def test_formats_without_whole_bytes_are_not_spelled():
    assert spelled({GQA: 1}, 51_200, 10, dtype=PACKED) == ""
    assert "x 2 B x" in spelled({GQA: 1}, 40_960, 10, dtype=DType("pairs", 2, 4))


def test_parameters():
    assert parameters(1000, "bfloat16", 2000) == "1,000 parameters in bfloat16 x 2 B"
    assert parameters(1000, "nf4", 531) == "1,000 parameters in nf4"
    assert parameters(0, "bfloat16", 0) == "0 parameters in bfloat16"


def test_each():
    assert each(3000, 3, "blocks") == "3 blocks x 1,000 B"
    assert each(3001, 3, "blocks") == "3 blocks x about 1,000.3 B"
    assert each(0, 0, "blocks") == "0 blocks"
