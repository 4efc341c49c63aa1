"""The report: every key of the contract with its type, its laws, and the closed lists of words.

The lists are written out here, and not read from the code, so that a change of either shows.
"""

import json
import re
from pathlib import Path

import pytest

import weighbridge
from tests import packings
from tests.cases import all_of
from tests.contract.conftest import BYTES, LISTED, REPORT, check, made
from tests.packings import CONFIG, PARAMETERS
from weighbridge.engines.table import FOLDERS
from weighbridge.memory.report.keys import OTHERS, DerivedFacts
from weighbridge.workload import INFER, LOAD, PICTURE, PICTURE_TRAINING, TRAIN


def test_keys_and_types(report):
    check(report, REPORT)
    assert report["schema"] == "weighbridge.report/1"
    assert report["version"] == weighbridge.__version__
    assert report["task"] == "load"
    assert report["model"]["read_from"]


def test_a_report_is_plain_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_check_can_fail():
    good = weighbridge.load(CONFIG).to_dict()
    for broken in (
        {"task": 5},
        {"warnings": ["", 1]},
        {"model": {**good["model"], "parameters": 1.0}},
    ):
        with pytest.raises(AssertionError, match=next(iter(broken))):
            check(good | broken, REPORT)
    with pytest.raises(AssertionError, match=r"report\.table"):
        check({k: v for k, v in good.items() if k != "table"}, REPORT)


LEVELS = ("allocated", "reserved", "driver")


ALLOCATED = """weights buffers kv_cache recurrent_state activations logits gradients optimizer_states
master_weights adapters temporaries workspaces rounding"""


LEVEL_OF = {
    **dict.fromkeys(ALLOCATED.split(), "allocated"),
    "fragmentation": "reserved",
    **dict.fromkeys(("context", "communication", "cuda_graphs", "other"), "driver"),
}


BASES = {"read", "computed", "traced", "measured", "assumed"}


PHASES = {"load", "prefill", "decode", "forward", "loss", "backward", "step", "save"}
STAGES = ["encode", "denoise", "decode"]  # of pictures and video


def test_words_are_of_the_closed_lists(report):
    for device in report["devices"]:
        assert device["kind"] in {"gpu", "host", "disk"}
        assert device["peak_phase"] in {phase["name"] for phase in device["phases"]} <= PHASES
        for phase in device["phases"]:
            for c in phase["components"]:
                assert c["level"] == LEVEL_OF[c["name"]]
                assert c["basis"] in BASES
                assert c["formula"]
                assert c["source"]
                assert c["role"] in {"", "draft", "process"}
                assert isinstance(c["stays"], bool)


def intervals(value):
    if isinstance(value, dict) and value.keys() == BYTES.keys():
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from intervals(inner)


def test_intervals_are_ordered(report):
    found = list(intervals(report))
    assert found
    assert all(0 <= b["low"] <= b["expected"] <= b["high"] for b in found)


def test_what_was_read_is_exact(report):
    for device in report["devices"]:
        for phase in device["phases"]:
            for c in phase["components"]:
                if c["basis"] == "read":
                    assert c["bytes"]["low"] == c["bytes"]["expected"] == c["bytes"]["high"]


def test_the_peak_is_the_largest_sum_of_one_phase(report):
    """... at each level, of the components that count there; so levels nest and bounds add."""
    for device in report["devices"]:
        for depth, level in enumerate(LEVELS, 1):
            for bound in BYTES:
                sums = {
                    phase["name"]: sum(
                        c["bytes"][bound]
                        for c in phase["components"]
                        if c["level"] in LEVELS[:depth]
                    )
                    for phase in device["phases"]
                }
                assert device["peak"][level][bound] == max(sums.values())
                if level == "driver":
                    (binding,) = (p["name"] for p in device["phases"] if bound in p["binds"])
                    assert sums[binding] == max(sums.values())
                    assert sums == {p["name"]: p["bytes"][bound] for p in device["phases"]}
                    assert bound != "expected" or sums[device["peak_phase"]] == max(sums.values())


def test_levels_include_the_lower_ones(report):
    for device in report["devices"]:
        for bound in BYTES:
            allocated, reserved, driver = (device["peak"][level][bound] for level in LEVELS)
            assert allocated <= reserved <= driver


PLAIN = {"float32": 32, "float16": 16, "bfloat16": 16, "fp8": 8, "int8": 8, "int4": 4}


FORMATS = {
    "bnb-int8": 8,
    "nf4": 4,
    "nf4-dq": 4,
    "gptq-4bit-g128": 4,
    "awq-4bit-g128": 4,
    "fp8-tensor": 8,
    "fp8-block": 8,
    "mxfp4": 4,
    "nvfp4": 4,
    "hqq-4bit-g64": 4,
    "torchao-int8": 8,
    "torchao-int4-g128": 4,
    "mlx-4bit-g64": 4,
    "Q8_0": 8,
    "Q4_K_M": 4,
}


def test_the_table_holds_the_plain_dtypes(report):
    found = {row["dtype"]: row for row in report["table"]}
    assert list(found)[: len(PLAIN)] == list(PLAIN)
    n = report["model"]["parameters"]
    for name, bits in PLAIN.items():
        row = found[name]
        assert row["total_bytes"] >= n * bits // 8
        assert row["largest_layer_bytes"] <= row["total_bytes"]
        mixed, pure = name in ("float32", "float16", "bfloat16"), name in ("float16", "bfloat16")
        assert row["training_adam_bytes"] == (16 * n if mixed else None)
        assert row["training_adam_pure_bytes"] == (8 * n if pure else None)


def test_counts_are_in_order(report):
    model = report["model"]
    assert 0 < model["active_parameters"] <= model["parameters"]
    if model["stored_bytes"] is not None:
        assert model["download_bytes"] >= model["stored_bytes"]


HEADLESS = PARAMETERS - packings.VOCAB * packings.HIDDEN


COUNTS = {
    "headers": PARAMETERS,
    "a headless class": HEADLESS,
    "a pipeline": PARAMETERS + 4 * 4 * 3 * 3,
    "a sentence transformer": PARAMETERS + 64 * 256,
    "an adapter": 8 * 256,
    "an unknown class": 64,
    "gguf": 256 * 512 + 256,
    "gptq": PARAMETERS,
    "a bare size": 7 * 10**9,
}


@pytest.mark.parametrize("kind", COUNTS)
def test_counts_of_every_kind(folder, kind):
    report = made(kind, folder)
    assert report.model.parameters == COUNTS[kind]
    parts = report.to_dict()["model"]["parts"]
    assert not parts or sum(part["parameters"] for part in parts) == COUNTS[kind]


@pytest.mark.slow
def test_real_formats_are_all_in_the_table():
    found = {row.dtype: row for row in weighbridge.load(LISTED).table}
    n = 8_030_261_248
    for name, bits in FORMATS.items():
        row = found[name]
        assert n * bits // 8 < row.total_bytes < 2 * n
        assert (row.training_adam_bytes, row.training_adam_pure_bytes) == (None, None)
    assert n * 4 // 8 < found["nf4-dq"].total_bytes < found["nf4"].total_bytes


OTHER_GROUPS = (
    "gptq-4bit-g64",
    "gptq-8bit-g128",
    "awq-4bit-g64",
    "hqq-4bit-g128",
    "mlx-4bit-g32",
    "mlx-8bit-g64",
    "torchao-int4-g64",
)


MIXTURES = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_S", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_XS", "q4_k_m")


@pytest.mark.slow
@all_of("name", [*FORMATS, *OTHER_GROUPS, *MIXTURES])
def test_every_format_can_be_asked_for(name):
    report = weighbridge.load(CONFIG, quantization=name)
    assert report.workload["quantization"].lower() == name.lower()
    assert 0 < report.peak.low <= report.peak.high


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_dtype_can_be_asked_for(name):
    (weights, *_) = weighbridge.load(CONFIG, dtype=name).devices[0].phases[0].components
    assert weights.bytes.expected == PARAMETERS * PLAIN[name] // 8


def test_every_derived_fact_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    rows = page[page.index("| key of `derived`") :].partition("\n\n")[0].splitlines()[2:]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(DerivedFacts.__annotations__)


@pytest.mark.slow
@all_of("name", DerivedFacts.__annotations__)
def test_every_derived_fact_is_made_by_something(name):
    package = Path(weighbridge.__file__).parent
    rooms = (package / room for room in ("engines", "answers/estimate", "training"))
    files = [
        *(p for room in rooms for p in room.rglob("*.py")),
        package / "answers/questions/prepared.py",
        package / "answers/questions/estimator.py",
        package / "answers/remedies/pictures.py",
    ]
    assert any(f'"{name}"' in p.read_text() for p in files)


def test_a_report_has_no_other_derived_fact(report):
    assert set(report["derived"]) <= set(DerivedFacts.__annotations__)


PACKAGE = Path(weighbridge.__file__).parent
KNOWN = {*LOAD, *INFER, *TRAIN, *PICTURE, *PICTURE_TRAINING, *OTHERS}


@pytest.mark.parametrize("engine", FOLDERS)
def test_what_an_engine_adds_to_a_report_is_known(engine):
    report = weighbridge.infer("qwen3-0.6b", engine=engine)
    assert set(report.workload) <= KNOWN
    assert set(report.derived) <= set(DerivedFacts.__annotations__)


@pytest.mark.slow
def test_a_report_of_a_pipeline_keeps_the_contract():
    report = weighbridge.infer("sd1.5").to_dict()
    check(report, REPORT)
    assert report["task"] == "infer"
    card, host = report["devices"]
    assert [phase["name"] for phase in card["phases"]] == STAGES
    assert [phase["name"] for phase in host["phases"]] == ["load"]
    for device in report["devices"]:
        for component in (c for phase in device["phases"] for c in phase["components"]):
            assert component["level"] == LEVEL_OF[component["name"]]
            assert component["basis"] in BASES
            assert component["formula"] and component["source"]
    stages = report["derived"]["picture_stages"]
    assert {one["stage"] for one in stages} == set(STAGES)
    assert {one["component"] for one in stages} == {"text_encoder", "unet", "vae"}
    most = {
        one["stage"]: max(s["bytes"] for s in stages if s["stage"] == one["stage"])
        for one in stages
    }
    driver = [phase["bytes"] for phase in card["phases"]]
    assert [[b["low"], b["expected"], b["high"]] for b in driver] == [most[s] for s in STAGES]
    assert set(report["derived"]) <= set(DerivedFacts.__annotations__)


@pytest.mark.parametrize("asked", [{"method": "lora", "seq_len": 64}, {"method": "grpo"}])
def test_what_training_adds_to_a_report_is_known(asked):
    report = weighbridge.train("qwen3-0.6b", **asked)
    assert set(report.workload) <= KNOWN
    assert set(report.derived) <= set(DerivedFacts.__annotations__)


def test_readers_of_a_report_name_settings():
    """`w` of a screen is what a report says of settings."""
    read = re.compile(r'\b(?:workload|w)(?:\[|\.get\()"(\w+)"')
    rooms = (
        "faces/view",
        "faces/charts",
        "faces/agents",
        "files/oom",
        "answers/remedies",
        "answers/estimate",
        "memory/report",
    )
    files = [p for room in rooms for p in (PACKAGE / room).rglob("*.py")]
    named = {name: p.name for p in files for name in read.findall(p.read_text())}
    assert named
    assert {name: p for name, p in named.items() if name not in KNOWN} == {}
