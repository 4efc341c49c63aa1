"""`load`: the figures that people have measured or published, edges by hand, laws."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.tiny import config
from weighbridge.base.memory import exactly
from weighbridge.base.units import MIB

LLAMA_70B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 28996,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
GPT2_LARGE = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 50257,
    "n_embd": 1280,
    "n_layer": 36,
    "n_head": 20,
    "n_positions": 1024,
}
TINY = config("first")


def rows(report):
    return {row.dtype: row for row in report.table}


def gib(nbytes):
    return round(nbytes / 2**30, 2)


def component(report, name, device=0):
    phase = report.devices[device].phases[0]
    return sum(c.bytes.expected for c in phase.components if c.name == name)


# Published


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_llama_70b_whatever_its_config_declares(dtype):
    config = LLAMA_70B | ({"torch_dtype": dtype} if dtype else {})
    report = weighbridge.load(config)
    assert report.model.parameters == 70_553_706_496
    totals = [gib(rows(report)[d].total_bytes) for d in ("float32", "float16", "int8", "int4")]
    assert totals == [262.83, 131.42, 65.71, 32.85]


def test_llama_70b_headless_is_what_accelerate_prints():
    report = weighbridge.load(LLAMA_70B, base_model=True)
    assert report.model.parameters == 69_503_033_344
    totals = [gib(rows(report)[d].total_bytes) for d in ("float32", "float16", "int8", "int4")]
    assert totals == [258.92, 129.46, 64.73, 32.36]


def test_bert_base_cased_allocates_what_accelerate_measured():
    # accelerate docs, "model memory estimator": 413.18 MB estimated, 413.68 MB measured
    assert weighbridge.load(BERT).model.parameters == 108_340_804
    report = weighbridge.load(BERT, base_model=True, dtype="float32")
    assert report.model.parameters == 108_310_272
    held = component(report, "weights") + component(report, "buffers")
    assert round(held / MIB, 2) == 413.18
    assert round(report.devices[0].peak("allocated").expected / MIB, 2) == 413.68
    assert gib(rows(report)["float32"].training_adam_bytes) == 1.61


@pytest.mark.parametrize(
    ("settings", "measured", "tolerance"),
    [
        ({}, 3.21, 0.005),
        ({"dtype": "float16"}, 1.59, 0.006),
        ({"quantization": "bnb-int8", "dtype": "float16"}, 0.89, 0.02 * 0.89),
        ({"quantization": "int8"}, 0.89, 0.02 * 0.89),  # what is left alone is in float16
    ],
)
def test_gpt2_large_as_transformers_4_held_it(settings, measured, tolerance):
    # measured with torch.cuda.memory_allocated: 3.21, 1.60 and 0.89 GB
    report = weighbridge.load(GPT2_LARGE, engine_version="4.40", **settings)
    assert report.model.parameters == 774_030_080
    allocated = report.devices[0].peak("allocated").expected / 1e9
    assert abs(allocated - measured) <= tolerance


@pytest.mark.parametrize(
    ("form", "version", "dtype", "left"),
    [
        ("bnb-int8", "4.57", None, "float16"),
        ("nf4", "4.57", None, "float16"),
        ("fp4", "4.57", None, "float16"),
        ("bnb-int8", "5.0", None, "float32"),
        ("bnb-int8", "4.57", "float32", "float32"),
        ("hqq-4bit-g64", "4.57", None, "float32"),
    ],
)
def test_bitsandbytes_asks_for_float16_where_nobody_names_a_dtype(form, version, dtype, left):
    asked = {"quantization": form, "engine_version": version, "dtype": dtype}
    assert weighbridge.load(GPT2_LARGE, **asked).workload["dtype"] == left
    assert weighbridge.infer(GPT2_LARGE, **asked).workload["dtype"] == left


def test_gpt2_large_of_transformers_5_has_no_masks():
    masks = 36 * 1024 * 1024
    old = component(weighbridge.load(GPT2_LARGE, engine_version="4.40"), "buffers")
    new = component(weighbridge.load(GPT2_LARGE, engine_version="5.23"), "buffers")
    assert old - new >= masks


# Edges, by hand


def test_the_default_dtype_follows_the_engine():
    config = TINY | {"dtype": "bfloat16"}
    assert weighbridge.load(config).workload["dtype"] == "bfloat16"
    assert weighbridge.load(config, engine_version="4.57").workload["dtype"] == "float32"
    assert weighbridge.load(TINY).workload["dtype"] == "float32"


def test_training_columns():
    report = weighbridge.load(TINY)
    found = rows(report)
    n = report.model.parameters
    assert (found["float32"].training_adam_bytes, found["float32"].training_adam_pure_bytes) == (
        16 * n,
        None,
    )
    assert (found["bfloat16"].training_adam_bytes, found["bfloat16"].training_adam_pure_bytes) == (
        16 * n,
        8 * n,
    )
    assert (found["int8"].training_adam_bytes, found["int8"].training_adam_pure_bytes) == (
        None,
        None,
    )


def test_t5_keeps_wo_in_float32_when_loaded_in_float16():
    config = {
        "model_type": "t5",
        "d_model": 64,
        "d_ff": 128,
        "num_layers": 1,
        "d_kv": 16,
        "num_heads": 4,
    }
    half, other = (
        component(weighbridge.load(config, dtype=d), "weights") for d in ("float16", "bfloat16")
    )
    assert half - other == 2 * 2 * 64 * 128  # two bytes more for `wo` in encoder and decoder


def test_a_tied_head_is_no_memory():
    tied = weighbridge.load(TINY | {"tie_word_embeddings": True}).model.parameters
    assert weighbridge.load(TINY).model.parameters - tied == 1000 * 64


def test_the_largest_layer_is_a_block_or_the_embedding():
    row = rows(weighbridge.load(TINY))["float32"]
    block = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    assert (row.largest_layer, row.largest_layer_bytes) == ("model.embed_tokens", 4 * 1000 * 64)
    row = rows(weighbridge.load(TINY | {"vocab_size": 10}))["float32"]
    assert (row.largest_layer, row.largest_layer_bytes) == ("model.layers.0", 4 * block)


def test_a_device_map_splits_one_block_exactly():
    # two feed-forward weights of 25 MiB in segments of 26 MiB: 1 MiB each is not split off
    config = TINY | {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 1}
    plain = weighbridge.load(config, dtype="float32")
    straight = weighbridge.load(config, dtype="float32", device_map="cuda")
    assert component(plain, "rounding") - component(straight, "rounding") >= 2 * MIB
    copies = [c for c in straight.devices[1].phases[0].components if c.name == "weights"]
    assert all(c.droppable for c in copies)


@pytest.mark.parametrize("form", ["awq", "gptq", "nf4", "Q4_K_M", "mxfp4", "hqq"])
@pytest.mark.parametrize("size", ["0.5b", "13b", "70.6b"])
def test_a_bare_size_is_packed_in_each_format_of_four_bits(size, form):
    report = weighbridge.load(size, quantization=form)
    assert component(report, "weights") == pytest.approx(float(size[:-1]) * 1e9 * 0.54, rel=0.06)


def test_unknown_settings_are_one_clear_line():
    with pytest.raises(weighbridge.UsageError, match="gptq-4bit-g128"):
        weighbridge.load(TINY, quantization="gptq-4bits")
    with pytest.raises(weighbridge.UsageError, match="engine-version"):
        weighbridge.load(TINY, engine_version="seven")
    with pytest.raises(weighbridge.BadFileError, match="unknown dtype"):
        weighbridge.load(TINY, dtype="float17")


# Laws

small = st.integers(1, 8)


@pytest.mark.slow
@settings(max_examples=40)
@given(layers=small, heads=small, vocab=st.integers(1, 2000))
def test_laws_of_the_levels_and_of_the_table(layers, heads, vocab):
    config = TINY | {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_size": 64 * heads,
        "vocab_size": vocab,
    }
    report = weighbridge.load(config)
    levels = [report.devices[0].peak(level) for level in ("allocated", "reserved", "driver")]
    assert levels[0].expected <= levels[1].expected <= levels[2].expected
    assert all(b.low <= b.expected <= b.high for b in levels)
    found = rows(report)
    assert found["float32"].total_bytes == 4 * report.model.parameters
    assert found["float16"].total_bytes == 2 * report.model.parameters
    assert all(r.largest_layer_bytes <= r.total_bytes for r in report.table)
    assert found["nf4-dq"].total_bytes <= found["bnb-int8"].total_bytes + 2048 * 7 * layers


@pytest.mark.slow
@settings(max_examples=20)
@given(layers=small)
def test_phases_never_exceed_the_peak(layers):
    report = weighbridge.load(TINY | {"num_hidden_layers": layers}).to_dict()
    for device in report["devices"]:
        for phase in device["phases"]:
            parts = sum(c["bytes"]["expected"] for c in phase["components"])
            assert parts == phase["bytes"]["expected"] <= device["peak"]["driver"]["expected"]


FORMS = [
    TINY,
    TINY | {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}},
    TINY
    | {
        "quantization_config": {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0"]}
    },
]


@pytest.mark.parametrize("config", FORMS)
@pytest.mark.parametrize(
    "settings", [{}, {"quantization": "nf4"}, {"dtype": "float16"}, {"dtype": "int8"}]
)
def test_a_reports_workload_asked_again_gives_the_same_report(config, settings):
    first = weighbridge.load(config, **settings)
    again = {k: v for k, v in first.workload.items() if k != "engine" and v is not None}
    assert weighbridge.load(config, **again).devices == first.devices


def test_a_packed_checkpoint_stays_packed():
    packed = weighbridge.load(FORMS[1], dtype="float16")
    assert component(packed, "weights") < component(
        weighbridge.load(TINY, dtype="float16"), "weights"
    )


def test_the_verdict_is_on_the_device_and_the_hosts_on_the_host():
    report = weighbridge.load(TINY, gpu="4090", ram="64GiB")
    card, machine = report.devices
    assert report.verdict.per_device == card.peak("driver") != machine.peak("driver")
    assert report.verdict.host.needed.low == machine.peak("driver").low


@pytest.mark.parametrize(
    "report",
    [
        lambda: weighbridge.load(TINY),
        lambda: weighbridge.infer("7B"),
        lambda: weighbridge.infer(TINY, engine="vllm", gpu="h100:2", context=64),
    ],
)
def test_devices_of_each_kind_are_numbered_from_zero(report):
    for kind in ("gpu", "host"):
        found = [device.index for device in report().devices if device.kind == kind]
        assert found == list(range(len(found)))


def test_a_release_without_a_second_number_is_the_first_of_it():
    asked = {"seq_len": 16, "gpu": "4090"}
    short, whole = (weighbridge.train(TINY, engine_version=n, **asked) for n in ("5", "5.0"))
    assert short.devices == whole.devices


def room(model, **settings):
    """Return the allocator's free room, or nothing."""
    parts = weighbridge.load(model, **settings).devices[0].phases[0].components
    return next((c.bytes for c in parts if c.name == "fragmentation" and not c.detail), exactly(0))


@pytest.mark.slow
def test_experts_of_a_layer_are_one_tensor_since_transformers_5():
    """Six of 3 MiB have a segment of 20: of 56.9 GiB a tenth is room; in one piece none is."""
    apart, whole = (
        room("qwen3-30b-a3b", dtype="bfloat16", engine_version=v) for v in ("4.57", "5.5")
    )
    assert whole.high < 256 * MIB
    assert apart.low == 0
    assert apart.expected == apart.high == pytest.approx(0.1 * 57 * 1024 * MIB, rel=0.05)


@pytest.mark.slow
def test_room_that_no_load_was_measured_with_may_not_be_there():
    """Packed experts stay apart, three quarters of a segment each. What any load has is a count."""
    packed, usual = room("kimi-k2.5"), room("qwen2.5-0.5b")
    assert packed.low == 0 < packed.expected == packed.high
    assert 0 < usual.low <= usual.expected == usual.high < 256 * MIB
