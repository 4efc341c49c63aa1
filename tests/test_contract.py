"""What scripts rely on: the report's keys and laws, the command line, its codes and its streams.

The closed lists are written out here, and not read from the code, so that a change of either shows.
"""

import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points

import pytest

import weighbridge
from tests import packings
from tests.cli.test_process import weighbridge as process
from tests.formats.build_gguf import Writer
from tests.hub import Hub
from tests.packings import CONFIG, PARAMETERS
from tests.sparse import write_repo, write_safetensors
from weighbridge.cli.menu import COMMANDS, run
from weighbridge.render import RenderOptions, render
from weighbridge.sources import http

# Reports of many kinds

LISTED = "llama-3.1-8b"
PIPELINE = {
    "_class_name": "TinyPipeline",
    "unet": ["diffusers", "TinyUNet"],
    "text_encoder": ["transformers", "LlamaForCausalLM"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/plain", "r": 8, "lora_alpha": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder of each kind, which is also the root of the stand-in Hub."""
    root = tmp_path_factory.mktemp("models")
    write_repo(root / "org/plain", CONFIG, packings.plain(), shards=3)
    for name in ("gptq 4-bit", "bnb nf4", "fp8 per block"):
        write_repo(
            root / "org" / name.replace(" ", "-"), packings.config(name), packings.PACKINGS[name][1]
        )
    write_repo(root / "org/gpt-oss", packings.GPT_OSS, packings.gpt_oss())
    write_repo(
        root / "org/unknown", {"model_type": "never_heard_of"}, {"a.weight": ("F16", (8, 8))}
    )
    write_repo(
        root / "org/adapter", {}, {"base_model.model.q_proj.lora_A.weight": ("F32", (8, 256))}
    )
    (root / "org/adapter/config.json").rename(root / "org/adapter/adapter_config.json")
    (root / "org/adapter/adapter_config.json").write_text(json.dumps(ADAPTER))
    pipeline(root / "org/pipeline")
    sentence_transformer(root / "org/sentences")
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    w.tensor("token_embd.weight", [256, 512], "Q4_K").tensor("output_norm.weight", [256])
    (root / "tiny.gguf").write_bytes(w.file())
    return root


def pipeline(root):
    write_repo(
        root / "unet", {"_class_name": "TinyUNet"}, {"conv_in.weight": ("F16", (4, 4, 3, 3))}
    )
    write_repo(root / "text_encoder", CONFIG, packings.plain())
    (root / "model_index.json").write_text(json.dumps(PIPELINE))


def sentence_transformer(root):
    write_repo(root, CONFIG, packings.plain())
    write_repo(
        root / "2_Dense",
        {"in_features": 256, "out_features": 64},
        {"linear.weight": ("F32", (64, 256))},
    )
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (root / "modules.json").write_text(json.dumps(modules))


KINDS = {
    "a config": lambda root: weighbridge.load(CONFIG),
    "the catalogue": lambda root: weighbridge.load(LISTED),
    "a mixture": lambda root: weighbridge.load("mixtral-8x7b", quantization="nf4"),
    "a vision model": lambda root: weighbridge.load("qwen2.5-vl-7b", dtype="int4"),
    "an old engine": lambda root: weighbridge.load(
        "gpt2", engine_version="4.40", device_map="auto"
    ),
    "headers": lambda root: weighbridge.load(root / "org/plain"),
    "a headless class": lambda root: weighbridge.load(root / "org/plain", base_model=True),
    "gptq": lambda root: weighbridge.load(root / "org/gptq-4-bit"),
    "bitsandbytes": lambda root: weighbridge.load(root / "org/bnb-nf4"),
    "fp8": lambda root: weighbridge.load(root / "org/fp8-per-block"),
    "mxfp4": lambda root: weighbridge.load(root / "org/gpt-oss"),
    "an unknown class": lambda root: weighbridge.load(root / "org/unknown"),
    "an adapter": lambda root: weighbridge.load(root / "org/adapter"),
    "a pipeline": lambda root: weighbridge.load(root / "org/pipeline"),
    "a sentence transformer": lambda root: weighbridge.load(root / "org/sentences"),
    "a file": lambda root: weighbridge.load(root / "org/plain/model-00001-of-00003.safetensors"),
    "gguf": lambda root: weighbridge.load(root / "tiny.gguf"),
    "a bare size": lambda root: weighbridge.load("7B"),
}


@cache
def made(kind, root):
    return KINDS[kind](root)


@pytest.fixture(params=KINDS)
def report(request, folder):
    return made(request.param, folder).to_dict()


# The report: every key of the contract, and its type

OR_NULL = type(None)
BYTES = {"low": int, "expected": int, "high": int}
COMPONENT = {
    "name": str,
    "detail": str,
    "level": str,
    "bytes": BYTES,
    "basis": str,
    "formula": str,
    "source": str,
}
DEVICE = {
    "index": int,
    "kind": str,
    "peak_phase": str,
    "peak": {"allocated": BYTES, "reserved": BYTES, "driver": BYTES},
    "taken": OR_NULL,
    "phases": [{"name": str, "bytes": BYTES, "components": [COMPONENT]}],
}
ROW = {
    "dtype": str,
    "largest_layer": str,
    "largest_layer_bytes": int,
    "total_bytes": int,
    "training_adam_bytes": (int, OR_NULL),
    "training_adam_pure_bytes": (int, OR_NULL),
}
REPORT = {
    "schema": str,
    "version": str,
    "task": str,
    "model": {
        "reference": str,
        "revision": (str, OR_NULL),
        "name": str,
        "architecture": str,
        "parameters": int,
        "active_parameters": int,
        "stored_bytes": (int, OR_NULL),
        "download_bytes": (int, OR_NULL),
        "read_from": [str],
    },
    "workload": dict,
    "devices": [DEVICE],
    "derived": dict,
    "table": [ROW],
    "verdict": OR_NULL,  # of `load` without an accelerator
    "remedies": [dict],
    "warnings": [str],
}


def check(value, shape, where="report"):
    """`value` has the keys and the types of `shape`; more keys may be there."""
    if isinstance(shape, dict):
        assert type(value) is dict, where
        for key, inner in shape.items():
            assert key in value, f"{where}.{key}"
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        assert type(value) is list, where
        for index, item in enumerate(value):
            check(item, shape[0], f"{where}[{index}]")
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        assert type(value) in kinds, f"{where} is {value!r}"


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


@pytest.mark.parametrize("name", [*FORMATS, *OTHER_GROUPS, *MIXTURES])
def test_every_format_can_be_asked_for(name):
    report = weighbridge.load(CONFIG, quantization=name)
    assert report.workload["quantization"].lower() == name.lower()
    assert 0 < report.peak.low <= report.peak.high


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_dtype_can_be_asked_for(name):
    (weights, *_) = weighbridge.load(CONFIG, dtype=name).devices[0].phases[0].components
    assert weights.bytes.expected == PARAMETERS * PLAIN[name] // 8


# Python


def test_the_api_returns_frozen_typed_records():
    report = weighbridge.load(CONFIG)
    assert isinstance(report, weighbridge.Report)
    assert report.peak.expected == report.to_dict()["devices"][0]["peak"]["driver"]["expected"]
    assert f"{PARAMETERS:,}" in str(report)
    assert report._repr_markdown_().count("| float32 |") == 1
    page = report._repr_html_()
    assert "float32" in page
    assert "<script" not in page
    with pytest.raises((AttributeError, TypeError)):
        report.task = "infer"
    with pytest.raises((AttributeError, TypeError)):
        report.model.parameters = 1


def test_a_name_of_a_stranger_is_text_in_html():
    page = weighbridge.load(
        CONFIG | {"_name_or_path": "<img src=x onerror=alert(1)>"}
    )._repr_html_()
    assert "<img" not in page


def test_errors_of_the_api_carry_the_exit_code():
    for error, code in (
        (weighbridge.UsageError, 2),
        (weighbridge.NotFoundError, 2),
        (weighbridge.BadFileError, 2),
        (weighbridge.HubError, 3),
        (weighbridge.GatedError, 3),
    ):
        assert issubclass(error, weighbridge.WeighbridgeError)
        assert error.code == code


# The command line, in this process


@pytest.fixture
def say(capsys, tmp_path, monkeypatch):
    """`say(arguments)` -> (code, stdout, stderr) of one command, far from any Hub."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "BACKOFF", 0.01)
    monkeypatch.delenv("WEIGHBRIDGE_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return (code, *capsys.readouterr())

    return call


def complains(answer, code, *words):
    """Nothing on stdout, one line on stderr."""
    assert answer[:2] == (code, ""), answer
    assert answer[2].startswith("error: ")
    assert answer[2].count("\n") == 1
    assert "defect" not in answer[2]
    assert "Traceback" not in answer[2]
    for word in words:
        assert word in answer[2]


def test_a_number_is_code_0(say, folder):
    for reference in (LISTED, folder / "org/plain", folder / "tiny.gguf", "7B"):
        code, out, _ = say("load", reference)
        assert (code, bool(out)) == (0, True)


SHARED = [
    "--revision",
    "--token",
    "--cache-dir",
    "--offline",
    "--trust-remote-code",
    "--dtype",
    "--quantization",
    "--base-model",
    "--unit",
    "--explain",
    "--format",
    "--json",
    "-q",
]


@pytest.mark.parametrize("option", SHARED)
def test_options_of_load_are_in_its_help(say, option):
    code, out, err = say("load", "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"(^|\s){re.escape(option)}\b", out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(say, command):
    code, out, _ = say(command, "--help")
    assert code == 0
    examples = out.partition("Options:")[0].splitlines()[1:]
    assert any("weighbridge" in line or line.strip().startswith("{") for line in examples), out


def test_exit_codes_are_in_the_help(say):
    _, out, _ = say("--help")
    flat = " ".join(out.split())
    for words in ("Exit codes: 0", "2 bad input", "3 Hub", "1 does not fit", "4 cannot say"):
        assert words in flat


def test_forms_of_one_answer(say):
    _, out, _ = say("load", LISTED, "--json")
    report = json.loads(out)
    assert say("load", LISTED, "--format", "json")[1] == out
    quiet = say("load", LISTED, "-q")[1]
    assert quiet == say("load", LISTED, "--quiet")[1] == say("load", LISTED, "--format", "quiet")[1]
    assert int(quiet) == report["devices"][0]["peak"]["driver"]["expected"]
    human = say("load", LISTED)[1]
    assert (
        human
        == say("load", LISTED, "--format", "human")[1]
        == say("load", LISTED, "--format", "auto")[1]
    )
    assert "8,030,261,248" in human
    markdown = say("load", LISTED, "--format", "markdown", "--details")[1]
    assert markdown.count("| nf4 |") == 1


@pytest.mark.parametrize(("unit", "size"), [("GiB", 2**30), ("GB", 10**9), ("MiB", 2**20)])
def test_units(say, unit, size):
    _, out, _ = say("load", LISTED, "--unit", unit)
    assert f"{4 * 8_030_261_248 / size:,.2f} {unit}" in out
    assert set(re.findall(r"\d (\w*B)\b", out)) - {"B"} == {unit}


def test_a_default_is_printed_with_its_reason(say):
    _, out, _ = say("load", LISTED)
    assert "bfloat16" in out
    assert "as the config declares" in out
    assert "transformers 5" in out


def test_explain_shows_formula_and_what_is_left_alone(say):
    _, out, _ = say("load", LISTED, "--explain")
    assert "8,030,261,248 parameters in bfloat16" in " ".join(out.split())
    assert "embeddings" in out


def test_numbers_are_never_cut_short():
    """A trillion parameters in MiB, on a narrow terminal."""
    trillion = CONFIG | {
        "hidden_size": 1 << 15,
        "num_hidden_layers": 80,
        "intermediate_size": 1 << 17,
    }
    report = weighbridge.load(trillion)
    assert report.model.parameters > 10**12
    for width in (1, 20, 60, 80, 100, 119, 120):
        for explain in (False, True):
            look = RenderOptions(unit="MiB", details=True, explain=explain, width=width)
            text = render(report, "human", look)
            assert "…" not in text
            assert f"{16 * report.model.parameters / 2**20:,.2f} MiB" in text


def test_warnings_are_on_stderr(say, folder):
    code, out, err = say("load", "7B")
    assert (code, err.startswith("warning: ")) == (0, True)
    assert "warning" not in out
    _, out, err = say("load", "7B", "--json")
    assert (json.loads(out)["warnings"] != [], err) == (True, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("load", "./nowhere"), "nowhere"),
        (("load", "nowhere/"), "nowhere"),
        (("load", ""), "names no model"),
        (("load", "a b"), "a b"),
        (("load", "a\nb"), "names no model"),
        (("load", "0B"), "0B"),
        (("load", "s3://bucket/model"), "s3://"),
        (("load", "https://huggingface.co/datasets/org/name"), "dataset"),
        (("load",), "MODEL"),
        (("load", LISTED, "extra"), "extra"),
        (("load", LISTED, "--dtype"), "--dtype"),
        (("load", LISTED, "--dtype", "float17"), "float17"),
        (("load", LISTED, "--dtype", "int16"), "int16"),
        (("load", LISTED, "--quantization", "nf5"), "nf4"),
        (("load", LISTED, "--quantization", "gptq-4bit-g0"), "gptq-4bit-g"),
        (("load", LISTED, "--engine-version", "seven"), "seven"),
        (("load", LISTED, "--engine-version", "6.0"), "transformers"),
        (("load", LISTED, "--unit", "KB"), "GiB"),
        (("load", LISTED, "--format", "xml"), "markdown"),
        (("load", LISTED, "--revision", "main"), "revision"),
        (("load", LISTED, "--nonsense"), "--nonsense"),
        (("lod", LISTED), "lod"),
        (("models", "zzzz"), "zzzz"),
        (("run", "/nowhere"), "/nowhere"),
        (("run", "/"), "irectory"),
        (("estimate-memory",), "MODEL_NAME"),
        (("estimate-memory", LISTED, "--dtypes", "float64"), "float64"),
        (("estimate-memory", LISTED, "--dtypes"), "--dtypes"),
        (("estimate-memory", LISTED, "--library_name", "keras"), "keras"),
        (("completion", "tcsh"), "tcsh"),
    ],
)
def test_wrong_usage_is_code_2(say, arguments, words):
    complains(say(*arguments), 2, words)


BAD_CONFIGS = {
    "a list": b"[1, 2]",
    "null": b"null",
    "nothing": b"",
    "cut": b'{"model_type": "llama", "hidden_size": 40',
    "not UTF-8": b'{"model_type": "llama", "name": "\xff\xfe"}',
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "no model_type": b'{"hello": "world"}',
    "a bomb of layers": b'{"model_type": "llama", "num_hidden_layers": 1000000000}',
    "a bomb of experts": b'{"model_type": "mixtral", "num_local_experts": 1000000000}',
    "a huge number": b'{"model_type": "llama", "hidden_size": 99999999999999999999999999}',
    "infinity": b'{"model_type": "llama", "hidden_size": 1e400}',
    "negative": b'{"model_type": "llama", "hidden_size": -4096}',
    "words": b'{"model_type": "llama", "hidden_size": "wide"}',
    "a boolean": b'{"model_type": "llama", "hidden_size": true}',
    "an unknown method": b'{"model_type": "llama", "quantization_config": {"quant_method": "zzz"}}',
    "an unknown dtype": b'{"model_type": "llama", "torch_dtype": "float17"}',
    "duplicate keys": b'{"model_type": "llama", "model_type": "gpt2"}',
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_configs_are_code_2(say, tmp_path, name):
    path = tmp_path / "config.json"
    path.write_bytes(BAD_CONFIGS[name])
    complains(say("load", path), 2, "config.json")
    if "bomb" not in name:
        complains(say("load", tmp_path), 2)


BAD_FILES = {
    "zero.safetensors": b"",
    "cut.safetensors": struct.pack("<Q", 500) + b'{"a": ',
    "long.safetensors": struct.pack("<Q", 1 << 63) + b"{}",
    "page.safetensors": b"<!DOCTYPE html><html>",
    "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "bare.safetensors": struct.pack("<Q", 2) + b"{}",
    "zero.gguf": b"",
    "magic.gguf": b"GGUX" + bytes(100),
    "future.gguf": b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
    "bomb.gguf": b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1 << 62),
    "zero.bin": b"",
    "junk.pt": bytes(range(256)) * 20,
    "zip.pth": b"PK\x03\x04" + bytes(100),
    "code.bin": b"\x80\x02cos\nsystem\nU\x05false\x85R.",
    "notes.txt": b"hello",
    "model.onnx": b"\x08\x07" + bytes(100),
    "model.safetensors.index.json": b'{"weight_map": {"a": "b.safetensors"}}',
    "model_index.json": b'{"_class_name": "Pipeline", "unet": ["diffusers", "UNet"]}',
    "adapter_config.json": b'{"peft_type": "LORA", "r": 8}',
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_code_2(say, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    complains(say("load", path), 2, name)


def test_a_file_in_capitals(say, folder, tmp_path):
    (tmp_path / "TINY.GGUF").write_bytes((folder / "tiny.gguf").read_bytes())
    assert say("load", tmp_path / "TINY.GGUF")[0] == 0


def test_folders_in_pieces(say, folder, tmp_path):
    def copy(name, **files):
        root = tmp_path / name
        write_repo(root, CONFIG, packings.plain(), shards=3)
        for file, change in files.items():
            change(root / f"model-{file[1:]:0>5}-of-00003.safetensors")
        return root

    missing = copy("missing", _2=lambda p: p.unlink())
    complains(say("load", missing), 2, str(missing), "model-00002-of-00003", "1 of 3")
    complains(
        say("load", copy("empty", _2=lambda p: p.write_bytes(b""))), 2, "model-00002-of-00003"
    )
    cut = copy("cut", _3=lambda p: os.truncate(p, p.stat().st_size - 1))
    complains(say("load", cut), 2, str(cut), "model-00003-of-00003")
    none = copy("none", _1=lambda p: p.unlink(), _2=lambda p: p.unlink(), _3=lambda p: p.unlink())
    code, out, err = say("load", none)
    assert (code, f"{PARAMETERS:,}" in out, "none is here" in err) == (0, True, True)
    (tmp_path / "bare").mkdir()
    complains(say("load", tmp_path / "bare"), 2, "config.json")
    escape = copy("escape")
    (escape / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret"}}')
    complains(say("load", escape), 2, "secret")


def test_odd_places(say, tmp_path, folder):
    """Loops, links, pipes, devices, and names that only a file system allows."""
    place = tmp_path / "Ünï cödé\nnew line"
    write_repo(place, CONFIG, packings.plain(), shards=2)
    (place / "loop").symlink_to(place)
    assert say("load", place, "-q")[0] == 0
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    for name in ("gone", "self"):
        complains(say("load", tmp_path / name), 2, name)
    os.mkfifo(tmp_path / "config.json")
    for name in (tmp_path, tmp_path / "config.json", "/dev/zero"):
        complains(say("load", name), 2)


@pytest.mark.slow
def test_names_of_strangers_do_not_drive_the_terminal(say, tmp_path):
    tensors = packings.plain() | {"\x1b]0;owned\x07\x1b[2J.weight": ("F32", (2, 2))}
    place = tmp_path / "\x1b[31mred"
    write_repo(place, CONFIG, tensors)
    code, out, err = say("load", place)
    assert (code, "owned" in err) == (0, True)
    assert "\x1b" not in out + err
    (place / "config.json").write_text('{"model_type": "\x1b[2J"}'.replace("\x1b", "\\u001b"))
    for file in place.glob("*.safetensors"):
        file.unlink()
    code, out, err = say("load", place)
    assert (code, "\x1b" in err) == (2, False)


def test_a_hub_out_of_reach_is_code_3_and_says_what_needs_none(say):
    complains(say("load", "org/Llama-3.1-8B"), 3, "localhost:9", LISTED, "config.json")
    complains(say("load", "org/nothing-like-it"), 3, "org/nothing-like-it", "config.json")
    complains(say("load", "org/x", "--offline"), 3, "org/x")
    complains(say("load", "org/x", "--token", ""), 2, "token")
    assert say("load", LISTED, "--offline", "-q")[0] == 0


def test_nothing_typed_is_the_help_and_code_2(say):
    code, out, err = say()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: weighbridge")


# models, completion, and the other name


def test_models_in_every_form(say):
    names = say("models", "-q")[1].split()
    assert LISTED in names
    assert len(names) >= 150
    assert len(set(names)) == len(names)
    body = json.loads(say("models", "llama-3.1", "--json")[1])
    assert body["schema"] == "weighbridge.models/1"
    assert {LISTED, "llama-3.1-70b"} <= {m["name"] for m in body["models"]}
    assert all(m["source"] for m in body["models"])
    table = say("models", "llama-3.1", "--format", "markdown")[1].splitlines()
    assert set(table[1]) <= set("|- :")
    assert any(LISTED in line for line in table[2:])


def test_weigh_is_the_same_program():
    scripts = {
        e.name: e
        for e in entry_points(group="console_scripts")
        if e.value.startswith("weighbridge")
    }
    assert scripts.keys() >= {"weighbridge", "weigh"}
    assert scripts["weigh"].value == scripts["weighbridge"].value == "weighbridge.cli:main"


# estimate-memory, as it is typed for accelerate


def cells(out):
    return [
        [c.strip() for c in line.strip("│").split("│")] for line in out.splitlines() if "│" in line
    ]


@pytest.mark.parametrize(
    "flags",
    [
        ("--library_name", "transformers", "--dtypes", "float32", "int4", "--trust_remote_code"),
        ("--library-name", "transformers", "--dtypes", "float32", "int4", "--trust-remote-code"),
        ("--dtypes", "float32", "int4"),
        ("--dtypes", "float32", "--dtypes", "int4"),
    ],
)
def test_flags_of_accelerate(say, flags):
    expected = [
        ["dtype", "Largest Layer", "Total Size", "Training using Adam"],
        ["float32", "1.96 GiB", "29.92 GiB", "119.66 GiB"],
        ["int4", "250.50 MiB", "3.74 GiB", "N/A"],
    ]
    for typed in ((LISTED, *flags), (*flags, LISTED)):
        code, out, _ = say("estimate-memory", *typed)
        assert code == 0
        assert cells(out)[0] == [f"Memory Usage for loading `{LISTED}`"]
        assert cells(out)[1:] == expected


def test_all_four_dtypes_by_default_and_the_headless_class(say):
    _, out, _ = say("estimate-memory", "llama-3.1-70b", "--base-model")
    found = {row[0]: row[2] for row in cells(out)[2:]}
    assert found == {
        "float32": "258.92 GiB",
        "float16": "129.46 GiB",
        "int8": "64.73 GiB",
        "int4": "32.36 GiB",
    }


def test_estimate_memory_reads_what_accelerate_cannot(say, folder):
    assert say("estimate-memory", folder / "org/plain", "--dtypes", "float16")[0] == 0
    complains(say("estimate-memory", "./nowhere"), 2, "nowhere")


# run


def answers(say, tmp_path, *lines):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    code, out, err = say("run", path)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_a_request_is_answered_as_the_command_answers(say, tmp_path, folder):
    workload = {
        "dtype": "float16",
        "quantization": "nf4",
        "engine_version": "4.57",
        "device_map": "auto",
        "base_model": True,
    }
    by_name, by_config, by_folder = answers(
        say,
        tmp_path,
        {"task": "load", "model": LISTED, "workload": workload},
        {"task": "load", "model": {"config": CONFIG}},
        b"",
        {"task": "load", "model": str(folder / "org/plain"), "workload": {}},
    )
    flags = (
        "--dtype",
        "float16",
        "--quantization",
        "nf4",
        "--engine-version",
        "4.57",
        "--device-map",
        "auto",
        "--base-model",
    )
    assert by_name == json.loads(say("load", LISTED, "--json", *flags)[1])
    for key, value in workload.items():
        assert by_name["workload"][key] == value
    assert by_config["model"]["parameters"] == by_folder["model"]["parameters"] == PARAMETERS
    check(by_config, REPORT)


BAD_REQUESTS = {
    "not JSON": b"not json",
    "not UTF-8": b'{"task": "load", "model": "\xff"}',
    "deep": b"[" * 100_000,
    "a list": [1],
    "no task": {"model": "7B"},
    "another task": {"task": "fly", "model": "7B"},
    "no model": {"task": "load"},
    "a number": {"task": "load", "model": 7},
    "a list of configs": {"task": "load", "model": {"config": []}},
    "an unknown key": {"task": "load", "model": "7B", "gpu": "a100"},
    "an unknown setting": {"task": "load", "model": "7B", "workload": {"batch": 1}},
    "a number for a name": {"task": "load", "model": "7B", "workload": {"dtype": 16}},
    "a word for a switch": {"task": "load", "model": "7B", "workload": {"base_model": "no"}},
    "a list for settings": {"task": "load", "model": "7B", "workload": ["dtype"]},
    "an unknown format": {"task": "load", "model": "7B", "workload": {"quantization": "nf5"}},
    "a bad config": {
        "task": "load",
        "model": {"config": {"model_type": "llama", "hidden_size": -1}},
    },
    "a missing folder": {"task": "load", "model": "./nowhere"},
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_failed_request_is_a_line_and_the_others_go_on(say, tmp_path, name):
    good = {"task": "load", "model": {"config": CONFIG}}
    first, failed, last = answers(say, tmp_path, good, BAD_REQUESTS[name], good)
    assert first == last
    assert failed.keys() == {"error"}
    check(failed, {"error": {"code": int, "message": str}})
    assert failed["error"]["code"] == 2
    assert "defect" not in failed["error"]["message"]


def test_a_request_that_needs_an_absent_hub_has_code_3(say, tmp_path):
    (failed,) = answers(say, tmp_path, {"task": "load", "model": "org/name"})
    assert failed["error"]["code"] == 3
    assert "org/name" in failed["error"]["message"]


# As a process: streams, terminals, signals


def shell(line, **env):
    """`line` in bash, where WB is the program."""
    script = f'set -o pipefail; WB="{sys.executable} -m weighbridge"; {line}'
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "WEIGH", "COLUMNS"))}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=clean | env
    )


@pytest.mark.parametrize("arguments", [f"load {LISTED}", f"load {LISTED} --json", "models"])
def test_a_reader_that_leaves_is_no_error(arguments):
    done = shell(f"$WB {arguments} | head -1")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


@pytest.mark.slow
def test_closed_streams():
    assert shell(f"$WB load {LISTED} -q 2>&-").stdout.strip().isdigit()
    done = shell(f"$WB load {LISTED} -q >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert shell("$WB load ./nowhere >&- 2>&-").returncode == 2
    done = shell("$WB run - <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_line():
    done = shell(f"$WB load {LISTED} -q > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert os.strerror(errno.ENOSPC) in done.stderr


@pytest.mark.slow
def test_an_encoding_without_our_signs():
    for encoding in ("ascii", "cp1252", "utf-8"):
        done = shell(f"$WB load {LISTED} >/dev/null", PYTHONIOENCODING=encoding, LC_ALL="C")
        assert (done.returncode, done.stderr) == (0, "")


def terminal(arguments, *, columns=100, env=None, interrupt=None):
    """(code, output) of the program on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "TERM")}
    command = [sys.executable, "-m", "weighbridge", *arguments]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, env=clean | {"TERM": "xterm"} | (env or {}), **streams) as done:
        os.close(theirs)
        if interrupt is not None:
            interrupt()
            done.send_signal(signal.SIGINT)
        output = b""
        with suppress(OSError):  # the end of a terminal
            while piece := os.read(ours, 65536):
                output += piece
    os.close(ours)
    return done.returncode, output.decode()


@pytest.mark.slow
def test_colour_is_for_terminals_that_want_it():
    assert "\x1b[" in terminal(["load", LISTED])[1]
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, output = terminal(["load", LISTED], env=env)
        assert (code, "\x1b" in output) == (0, False)
    assert "\x1b" not in terminal(["load", "./nowhere"], env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in terminal(["load", LISTED, "--json"])[1]


@pytest.mark.parametrize("columns", [0, 20])
def test_a_terminal_of_any_width_shows_all(columns):
    """Consoles without a size report 0 columns."""
    code, output = terminal(["load", LISTED], columns=columns, env={"NO_COLOR": "1"})
    assert code == 0
    for size in ("29.92 GiB", "119.66 GiB", "5.61 GiB", "8,030,261,248"):
        assert size in output


@pytest.mark.slow
def test_an_interrupt_is_quiet(folder, tmp_path):
    with Hub(folder, latency=20) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "NO_COLOR": "1"}

        def asked():
            until = time.monotonic() + 20
            while not hub.requests and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.6)  # long enough for the progress line

        code, output = terminal(["load", "org/plain"], env=env, interrupt=asked)
    assert code == 130
    assert "reading org/plain" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_progress_is_silent_in_a_pipe(folder, tmp_path):
    with Hub(folder, latency=0.15) as hub:
        done = process(
            "load", "org/plain", "-q", env={"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_gated_model_names_its_page_and_the_login(folder, tmp_path):
    with Hub(folder, gated={"org/plain": ["hf_good"]}) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        done = process("load", "org/plain", env=env)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        assert f"{hub.endpoint}/org/plain" in done.stderr
        assert "hf auth login" in done.stderr
        assert process("load", "org/plain", "-q", env=env | {"HF_TOKEN": "hf_good"}).returncode == 0


def test_headers_are_not_in_memory_twice_the_file(tmp_path):
    """A file of 64 GiB of zeros costs no memory: only its header is read."""
    path = tmp_path / "huge.safetensors"
    write_safetensors(path, {"a.weight": ("F32", (1 << 17, 1 << 17))})
    done = shell(f"ulimit -v 2000000; $WB load {path} --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["stored_bytes"] == 1 << 36
