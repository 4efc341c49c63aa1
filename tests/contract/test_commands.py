"""The command line: options, forms, units, exit codes, and one line for each mistake."""

import json
import os
import re
import struct

import pytest

import weighbridge
from tests import packings
from tests.contract.conftest import LISTED, complains
from tests.packings import CONFIG, PARAMETERS
from tests.sparse import write_repo
from weighbridge.faces.cli.menu import COMMANDS
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions


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


@pytest.mark.slow
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


@pytest.mark.slow
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
