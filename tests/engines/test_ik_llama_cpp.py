"""ik_llama.cpp: what is its own. Its logs are in test_llama_cpp_records.py."""

from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.ask import usual
from tests.cases import all_of
from tests.engines.answers import answer, part
from weighbridge.base.dtypes import GGML_BY_NAME
from weighbridge.base.errors import UsageError
from weighbridge.base.units import MIB
from weighbridge.engines.ik_llama_cpp.rules import ik_rules
from weighbridge.engines.launch import parse
from weighbridge.engines.llama_cpp.ggml.graph import F32
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight
from weighbridge.engines.llama_cpp.placement import LayerPlacement, dealt
from weighbridge.engines.llama_cpp.rules import PACKED, products, repacked
from weighbridge.engines.table import ENGINES, version
from weighbridge.models.arch.mixers import Layer

DEEPSEEK = {
    "engine": "ik_llama.cpp",
    "context": 32_768,
    "quantization": "Q4_K_M",
    "program": "cli",
    "n_cpu_moe": 99,
}


asked = usual(answer, "deepseek-v3", **DEEPSEEK)


def cached(found):
    return part(found.devices[0].phases[1], "kv_cache") / MIB


def computing(found):
    return part(found.devices[0].phases[1], "activations") / MIB


# Latent attention: 61 layers of 576 values a token


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "flash", "types", "mib"),
    [
        (3, "on", {}, 2196),
        (3, "on", {"cache_type_k": "q8_0"}, 1166.625),
        (2, "off", {}, 2196),
        (1, "off", {}, 2196 + 1952),  # and 512 turned
        (0, "off", {}, 61 * 128 * (192 + 128) * 2 / 32),  # of 128 heads each
    ],
)
def test_what_modes_store(mode, flash, types, mib):
    found = asked(mla_attn=mode, flash_attn=flash, engine_version="3682", **types)
    assert cached(found) == mib
    assert found.derived["kv_cache_bytes_per_token"] == mib * MIB / 32_768


@pytest.mark.slow
def test_a_smaller_batch_of_heads_takes_less():
    """All 128 heads unfolded: 256 values of 32,768 tokens in 32 bits, 4,096 MiB, and copies."""
    few, all_ = (
        computing(asked(mla_attn=3, attn_max_b=n, flash_attn="on", engine_version="3682"))
        for n in (512, 0)
    )
    assert few < 4_300
    assert all_ > 4_096 + 1_024


@pytest.mark.slow
def test_without_the_mode_scores_decide():
    """128 heads x 512 tokens x 32,768 cells x 4 bytes: 8 GiB."""
    assert computing(asked(mla_attn=0, flash_attn="off", engine_version="3682")) > 8_192


@pytest.mark.slow
def test_matrices_that_a_file_lacks_are_made_at_load():
    """k_b in 8 bits and v_b beside kv_b: of 128 heads, 128 x 512 each."""
    found = asked(engine_version="3682", quantization="Q8_0")
    plain = answer("deepseek-v3", **DEEPSEEK | {"engine": "llama.cpp", "quantization": "Q8_0"})
    more = [part(a.devices[0].phases[0], "weights") for a in (found, plain)]
    assert more[0] - more[1] == 61 * 128 * 256 * 512 // 32 * 34


# Builds


@pytest.mark.slow
def test_defaults_changed():
    before, after = (asked(engine_version=v).settings for v in ("3682", "4000"))
    assert (before["mla_attn"], after["mla_attn"]) == (0, 3)
    assert (before["fused_moe"], after["fused_moe"]) == (False, True)
    assert (before["flash_attn"], after["flash_attn"]) == ("off", "on")
    assert asked().settings["attn_max_b"] == 256


@all_of(
    ("build", "field", "value"),
    [
        (3589, "unfolds_at_once", True),
        (3590, "unfolds_at_once", False),
        (3682, "fused_moves", False),
        (3683, "fused_moves", True),
        (3906, "half_mask", False),
        (3907, "half_mask", True),
    ],
)
def test_graphs_changed(build, field, value):
    assert getattr(ik_rules(build)[0], field) is value


LENT = {"mla_attn": 3, "attn_max_b": 512, "flash_attn": "on", "n_batch": 4096, "ubatch_size": 2048}
PIPELINE = LENT | {"gpu": "2xh100"}


@pytest.mark.slow
def test_a_pipeline_beside_experts_on_the_host():
    """Two builds before the default of copies became 1; every weight that is lent is there four
    times until then, and no memory is used again: more than the card has."""
    old, middle = (asked(engine_version=v, **PIPELINE) for v in ("3872", "3873"))
    assert computing(old) > 40 * computing(middle)
    (said,) = [w for w in old.warnings if "GGML_SCHED_MAX_COPIES" in w]
    assert "--sched-max-copies 1" in said
    rebuilt = asked(engine_version="3872", sched_max_copies=1, **PIPELINE)
    assert computing(rebuilt) == computing(middle)
    assert not [w for w in (*middle.warnings, *rebuilt.warnings) if "COPIES" in w]


@pytest.mark.slow
def test_a_build_with_more_copies():
    """A build directory that is kept holds the old number; since 3941 experts on the host end it."""
    four, none = (asked(engine_version=v, sched_max_copies=4, **PIPELINE) for v in ("3900", "3941"))
    assert computing(four) > 40 * computing(none)


# Rows that are packed for processors


@pytest.mark.slow
def test_repacked_experts_are_not_copied():
    """-rtr: 256 experts of Q4_K, which a GPU does not multiply once their rows are packed."""
    plain, packed = (
        asked(run_time_repack=on, engine_version="4840", **LENT) for on in (False, True)
    )
    gate = 256 * 7168 * 2048 * 144 // 256 / MIB  # 2,016 of one matrix of one layer's experts
    assert computing(plain) > gate
    assert computing(packed) < computing(plain) - 100
    held = [part(a.devices[0].phases[0], "weights") for a in (plain, packed)]
    assert held[0] == held[1]
    assert packed.settings["no_mmap"] and packed.settings["run_time_repack"]
    line = packed.derived["launch"]
    assert "-rtr" in line.split() and "--no-mmap" not in line
    assert parse(line).settings["run_time_repack"] is True


@all_of(
    ("build", "form", "copied"),
    [
        (3713, "IQ4_K", False),
        (3714, "IQ4_K", True),
        (3725, "IQ1_S", True),  # has no partner, and is left as it is
        (4840, "IQ4_XS", False),
        (4840, "Q8_0", False),
    ],
)
def test_types_that_a_gpu_multiplies(build, form, copied):
    name = repacked(form, 2048)
    assert (not name.endswith(PACKED) or name in products(build)) is copied


def test_rows_that_are_not_packed():
    assert repacked("Q8_0", 12) == "Q8_0"
    assert repacked("Q4_K", 12) == "Q4_K_R4"
    assert repacked("F16", 16) == "F16"


def test_versions():
    kind = ENGINES["ik_llama.cpp"]
    assert version(kind, "3682") == ((3682,), "")
    assert version(kind, None)[0] == (4840,)
    assert version(kind, "9999")[1]


@pytest.mark.slow
def test_a_server_had_a_row_more():
    rows = [
        part(asked(engine_version=v, program="server").devices[1].phases[1], "logits")
        for v in ("3682", "4000")
    ]
    assert rows == [2 * 129_280 * 4, 129_280 * 4]


# Settings, types


def test_refused():
    with pytest.raises(UsageError, match="-mla 4"):
        asked(mla_attn=4)


def test_modes_are_for_latents_alone():
    found = asked("qwen3-30b-a3b", mla_attn=3)
    assert found.settings["mla_attn"] == 0


def test_the_command_line():
    words = asked(mla_attn=3, attn_max_b=512, fused_moe=True).derived["launch"].split()
    assert words[words.index("-mla") + 1] == "3"
    assert words[words.index("-amb") + 1] == "512"
    assert "-fmoe" in words


@all_of(
    ("name", "bits"),
    [("IQ4_K", 4.5), ("IQ2_K", 2.375), ("IQ3_K", 3.4375), ("Q4_K_R4", 4.5), ("Q8_0_R8", 8.5),
     ("IQ4_KSS", 4.0), ("IQ2_KS", 2.1875)],
)  # fmt: skip
def test_bits_of_its_types(name, bits):
    d = GGML_BY_NAME[name]
    assert 8 * d.nbytes / d.block == bits


def test_rows_with_a_scale_of_their_own():
    """IQ4_KS: 136 bytes for 256 values and 4 bytes a row."""
    assert GGML_BY_NAME["IQ4_KS"].rows(7168, 71_680) == 10 * (4 + 28 * 136)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["3576", "3588", "3682", "3700", "3800", "4000", "4840"]),
    st.sampled_from([None, 0, 1, 2, 3]),
    st.sampled_from([None, "on", "off"]),
    st.sampled_from([None, 64, 1024]),
    st.sampled_from(["deepseek-v2-lite", "qwen3-30b-a3b", "llama-3.1-8b", "gemma-2-9b"]),
    st.integers(1, 20_000),
)
def test_laws(build, mode, flash, batch, name, context):
    w = {"mla_attn": mode, "flash_attn": flash, "attn_max_b": batch, "engine_version": build}
    one, two = (asked(name, context=n, **w) for n in (context, context + 4_096))
    assert cached(two) >= cached(one) > 0
    for device in one.devices:
        for phase in device.phases:
            assert all(c.bytes.low <= c.bytes.expected <= c.bytes.high for c in phase.components)


# Whose experts --n-cpu-moe leaves to the host


def lent(build, *, gpus, count, layers=48, dense=0, mode="layer", split=(1.0, 1.0)):
    """Layers of a mixture of so many, the first `dense` of them without experts."""
    rows = [
        Weight(f"blk.{i}.ffn_{'down' if i < dense else 'down_exps'}.weight", F32, (4, 4), 64)
        for i in range(layers)
    ]
    net = Network(arch="x", hidden=4, layers=(Layer(),) * layers, weights={w.name: w for w in rows})
    launch = SimpleNamespace(
        gpus=gpus,
        layers=layers + 1,
        gpu_layers=layers + 1,
        cpu_moe=count,
        split_mode=mode,
        tensor_split=split[:gpus],
        main_gpu=0,
        rules=ik_rules(build)[0],
    )
    return LayerPlacement(net=net, launch=launch, free=(1,) * gpus).lent


def test_experts_of_the_last_layers_of_each_card_stay():
    """Published: of 24 of 48 layers on two cards those of 12 to 23 and 36 to 47, where builds before
    took the first 24 (ikawrakow/ik_llama.cpp pull request 1464)."""
    assert lent(4324, gpus=2, count=24) == frozenset(range(24))
    found = lent(4325, gpus=2, count=24, split=(24.0, 25.0))
    assert found == frozenset((*range(12, 24), *range(36, 48)))


def test_one_card_gives_its_first_layers_and_since_august_its_last_that_have_experts():
    assert lent(4796, gpus=1, count=2, dense=3) == {0, 1}  # two without any
    assert lent(4797, gpus=1, count=2, dense=3) == {46, 47}
    assert lent(4797, gpus=1, count=99, dense=3) == frozenset(range(3, 48))
    assert lent(4797, gpus=2, count=48) == frozenset(range(48))  # all of them


def test_layers_are_dealt_in_proportion():
    """Worked by hand: 5 of 24 and 24 layers are 2.5 each, rounded up to 3 and 3; the first gives
    one back."""
    assert dealt([24, 24], 5) == [2, 3]
    assert dealt([30, 10], 4) == [3, 1]
    assert dealt([1, 1, 1], 1) in ([1, 0, 0], [0, 1, 0], [0, 0, 1])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 300))
def test_no_card_gives_more_layers_than_it_has(each, count):
    count = min(count, sum(each))
    found = dealt(each, count)
    assert sum(found) == count
    assert all(0 <= n <= most for n, most in zip(found, each, strict=True))


def test_rows_are_split_no_more():
    """Since build 4012 (ikawrakow/ik_llama.cpp pull request 987)."""
    row = {"engine": "ik_llama.cpp", "gpu": "3090:2", "split_mode": "row", "context": 4096}
    assert answer("llama-3.1-8b", engine_version="4011", **row).devices
    with pytest.raises(UsageError, match="no more since build 4012"):
        answer("llama-3.1-8b", engine_version="4012", **row)
