"""What of a packed base ranks share out: tables by hand, from the sources in sharding/numbers.py."""

import pytest

from tests.cases import all_of
from tests.training.test_sharding import RANKS, most, seven
from weighbridge.base.errors import UsageError
from weighbridge.models.quantization.schemes import scheme
from weighbridge.training.sharding.numbers import PackedRun, Sharding, held_codes

NOW = {"framework": "trainer", "prepares": True, "floats": False, "torch": (2, 13)}
CODES = 32 * (4 * 4096**2 + 3 * 4096 * 11008) // 2  # of Llama-2-7B in 4 bits, bytes
REST = 2 * (2 * 32000 * 4096)  # its embedding and head in 16 bits


def of(form, kind, **run):
    run = PackedRun(**{**NOW, "accelerate": None, **run})
    return held_codes(scheme(form), Sharding(kind=kind, data=8), run)


@all_of(
    ("form", "kind", "run", "expected"),
    [
        ("gptq-4bit-g128", "fsdp1", {}, "whole"),
        ("awq-4bit-g128", "fsdp2", {}, "whole"),
        ("gptq-4bit-g128", "zero3", {}, "whole"),
        ("nf4", "ddp", {}, "whole"),
        ("nf4", "zero2", {}, "whole"),
        ("nf4", "fsdp1", {"floats": True}, "parts"),
        ("nf4", "fsdp2", {}, "whole"),
        ("nf4", "fsdp2", {"floats": True, "torch": (2, 4)}, "parts"),
        ("nf4", "fsdp2", {"torch": (2, 7)}, "whole"),
        ("nf4", "fsdp2", {"accelerate": (1, 13), "torch": (2, 12)}, "parts"),
        ("nf4", "fsdp2", {"framework": "plain", "prepares": False}, "parts"),
        ("nf4", "fsdp2", {"framework": "torchtune", "prepares": False, "torch": (2, 5)}, "all"),
        ("nf4", "hsdp", {}, "whole"),
        ("nf4", "zero3", {}, "parts"),
        ("hqq-4bit-g64", "fsdp2", {}, "parts"),
        ("eetq", "zero3", {}, "parts"),
        ("bnb-int8", "zero3", {}, "both"),
        ("bnb-int8", "fsdp2", {"framework": "axolotl"}, "parts"),
    ],
)
def test_what_a_rank_has_of_the_codes(form, kind, run, expected):
    assert of(form, kind, **run) == expected


@all_of(
    ("form", "kind", "run", "says"),
    [
        ("nf4", "fsdp1", {}, "integer dtype tensors.*add --bnb-4bit-quant-storage bfloat16"),
        ("bnb-int8", "fsdp1", {}, "integer dtype tensors.*use --shard zero3"),
        ("hqq-4bit-g64", "fsdp1", {}, "integer dtype tensors.*use --shard zero3"),
        ("bnb-int8", "fsdp2", {}, "no attribute 'CB'"),
        ("nf4", "fsdp2", {"torch": (2, 6)}, "which torch 2.6 refuses"),
        ("nf4", "fsdp2", {"torch": (2, 11), "accelerate": (1, 13)}, "which torch 2.11 refuses"),
        ("hqq-4bit-g64", "fsdp2", {"torch": (2, 11)}, "use --torch-version 2.12"),
    ],
)
def test_what_libraries_refuse_is_refused(form, kind, run, says):
    with pytest.raises(UsageError, match=says):
        of(form, kind, **run)


def held_in_weights(**settings):
    given = {"lora_targets": ("q_proj",), "kbit_upcast": "none", **settings}
    return most(seven(**given), "weights", phase="step")


@pytest.mark.slow
def test_packed_weights_that_are_stored_as_floats_are_shared_out():
    """Codes are parameters to FSDP then, their scales stay whole; integers are whole on each."""
    settings = {"method": "qlora", "shard": "fsdp2", "lora_targets": ("q_proj",)}
    whole, parts = (
        seven(bnb_4bit_quant_storage=kind, **settings) for kind in ("uint8", "bfloat16")
    )
    weights = [most(r, "weights", phase="step") for r in (whole, parts)]
    assert weights[0] - weights[1] == pytest.approx(CODES * (1 - 1 / RANKS), rel=0.001)
    assert any("--bnb-4bit-quant-storage bfloat16" in w for w in whole.warnings)
    assert not any("--bnb-4bit-quant-storage" in w for w in parts.warnings)


@pytest.mark.slow
def test_zero_3_cuts_packed_weights_however_they_are_stored():
    """And has all of them on the device before; of 8 bits it keeps all, too."""
    stage = {"method": "qlora", "shard": "zero3"}
    one = held_in_weights(method="qlora", shard="ddp")
    parts = held_in_weights(**stage)
    assert one - parts == pytest.approx((CODES + REST) * (1 - 1 / RANKS), rel=0.001)
    report = seven(lora_targets=("q_proj",), **stage)
    loaded = most(report, "weights", phase="load")
    assert loaded == pytest.approx(one, rel=0.01)
    eight = {"method": "lora", "quantization": "bnb-int8"}
    more = held_in_weights(shard="zero3", **eight)
    alone = held_in_weights(shard="ddp", **eight)
    assert more - alone == pytest.approx(2 * CODES / RANKS - REST * (1 - 1 / RANKS), rel=0.001)


def test_what_zero_3_fetches_of_a_packed_base_is_packed():
    """Not the linears of 16 bits that the codes stand for: max_live_parameters counts what there
    is, so all of it is there once."""
    settings = {"method": "qlora", "shard": "zero3", "lora_targets": ("q_proj",)}
    live = 10_000_000_000
    found = seven(zero_max_live_parameters=live, zero_prefetch_bucket_size=1000, **settings)
    fetched = most(found, "temporaries", phase="step")
    peak = max(most(found, "temporaries", phase=p) for p in ("forward", "backward"))
    assert CODES + REST < peak < 1.3 * (CODES + REST) + fetched


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"framework": "axolotl", "method": "qlora"}, "parts"),
        ({"framework": "axolotl", "method": "qlora", "bnb_4bit_quant_storage": "uint8"}, "parts"),
        ({"framework": "trainer", "method": "qlora"}, "whole"),
    ],
)
def test_axolotl_stores_its_four_bits_as_bfloat16_and_packs_them_twice(settings, expected):
    found = seven(shard="fsdp2", lora_targets=("q_proj",), **settings)
    scales = CODES * 2 // 64 * (0.25 if settings["framework"] == "axolotl" else 1)
    codes = CODES / RANKS if expected == "parts" else CODES
    weights = most(found, "weights", phase="step")
    assert weights == pytest.approx(codes + scales * 4 + REST / RANKS, rel=0.02)


@pytest.mark.slow
def test_torchtunes_root_gives_its_parameters_back_since_torch_2_8():
    """It is told to, as torchtune tells all units; before, torch did not heed it of a root."""
    usual = {"framework": "torchtune", "method": "lora", "shard": "fsdp2", "checkpointing": "none"}
    usual["lora_targets"] = "q_proj,v_proj"
    before, after = (seven(torch_version=torch, **usual) for torch in ("2.7", "2.8"))
    whole = 2 * (2 * 32000 * 4096 + 4096)
    layer = 2 * (4 * 4096**2 + 3 * 4096 * 11008)  # gathered ahead
    held = [most(r, "temporaries", phase="loss") for r in (before, after)]
    assert held[0] == pytest.approx(whole + layer, abs=2**20)
    assert held[1] == pytest.approx(2 * whole, abs=2**20)  # its gather and itself, anew
