"""`--fix`: the smallest text that says the change, in the very file, and that is read as meant."""

import json
from pathlib import Path

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.faces.cli import menu
from weighbridge.faces.cli.runfile import _raw
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.patching import applied, patched

AXOLOTL = """\
base_model: llama-3.1-8b   # ours
load_in_4bit: true
adapter: qlora
sequence_len: 8192
micro_batch_size: 4  # as large as it goes
lora_r: 64
lora_target_linear: true
bf16: auto

plugins:
  - other.Plugin
val_set_size: 0.1
"""
FIXED = """\
base_model: llama-3.1-8b   # ours
load_in_4bit: true
adapter: qlora
sequence_len: 8192
micro_batch_size: 1  # as large as it goes
lora_r: 64
lora_target_linear: true
bf16: auto
gradient_checkpointing: true
liger_fused_linear_cross_entropy: true
gradient_accumulation_steps: 4

plugins:
  - other.Plugin
  - axolotl.integrations.liger.LigerPlugin
val_set_size: 0.1
"""
SHELL = "vllm serve llama-3.1-8b \\\n  --max-model-len 131072 --port 80\n"
LISTED = """\
services:
  a:
    image: vllm/vllm-openai:v0.19.0
    command:  # flags
      - --model
      - llama-3.1-8b
      - --max-model-len
      - "131072"
"""
FOLDED = """\
services:
  a:
    image: vllm/vllm-openai:v0.19.0
    command: >
      --model llama-3.1-8b
      --max-model-len 131072
"""


@pytest.mark.slow
def test_an_axolotl_file_is_changed_where_it_must_be_and_nowhere_else():
    found = weighbridge.weigh(AXOLOTL, name="run.yaml", gpu="4090")
    assert found.fits == "no"
    patch = patched(found)
    assert patch.after == FIXED
    assert "-micro_batch_size: 4  # as large as it goes\n+micro_batch_size: 1" in patch.diff
    again = weighbridge.weigh(patch.after, name="run.yaml", gpu="4090")
    assert again.fits == "yes"
    assert again.runs[0].report.peak.expected == patch.remedies[0].peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "name"), [(SHELL, "serve.sh"), (LISTED, "compose.yaml"), (FOLDED, "compose.yaml")]
)
def test_flags_are_changed_in_scripts_in_lists_and_in_text(text, name):
    found = weighbridge.weigh(text, name=name, gpu="3090")
    assert found.fits == "no"
    patch = patched(found)
    kept = [line for line in text.splitlines() if "llama" not in line]
    assert all(line in patch.after.splitlines() for line in kept)
    again = weighbridge.weigh(patch.after, name=name, gpu="3090")
    assert again.fits == "yes"
    assert again.runs[0].report.peak.expected == patch.remedies[0].peak_bytes


@pytest.mark.slow
def test_bitsandbytes_states_are_not_proposed_beside_fsdp2():
    """axolotl 0.19 refuses them (utils/schemas/validation.py)."""
    text = (
        "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 1\nsequence_len: 2048\n"
        "fsdp_version: 2\n"
        "fsdp_config:\n  auto_wrap_policy: TRANSFORMER_BASED_WRAP\n"
    )
    found = weighbridge.weigh(text, name="run.yaml", gpu="3060:2")
    changes = [r.change for r in found.runs[0].report.remedies]
    assert changes
    assert not any(
        "bit" in c.get("optimizer", "") and "torch" not in c["optimizer"] for c in changes
    )


@pytest.mark.slow
def test_what_fits_stays_and_what_nothing_fits_has_no_patch():
    fits = weighbridge.weigh(AXOLOTL, name="run.yaml", gpu="h200:8", batch_size=1)
    assert patched(fits).after == AXOLOTL
    never = weighbridge.weigh(AXOLOTL, name="run.yaml", gpu_memory="2GiB")
    assert patched(never) is None


@all_of(
    ("syntax", "text", "words", "after"),
    [
        ("yaml", "a: 1 # x\nb: 2\n", {"a": 5}, "a: 5 # x\nb: 2\n"),
        ("yaml", "a: 1\nb: 2\n", {"c": "word"}, "a: 1\nb: 2\nc: word\n"),
        ("yaml", "a: 1\nb: 2\n", {"c": True}, "a: 1\nb: 2\nc: true\n"),
        ("yaml", "a: 1", {"c": "1e5", "d": 2}, 'a: 1\nc: "1e5"\nd: 2'),
        ("yaml", "a:\n  b: 1\n", {"a.c": 2}, "a:\n  b: 1\n  c: 2\n"),
        ("yaml", "a: [x]\n", {"a": ("x", "y")}, "a: [x, y]\n"),
        ("yaml", "a:\n  - x\nb: 1\n", {"a": ("y",)}, "a:\n  - x\n  - y\nb: 1\n"),
        ("yaml", "b: 1\n", {"a": ("y",)}, "b: 1\na:\n  - y\n"),
        ("yaml", "a:\n  b: 1\n", {"a": 2}, None),
        ("json", '{\n  "a": {"b": 1}\n}', {"a.b": 2}, '{\n  "a": {"b": 2}\n}'),
        ("json", '{\n  "a": 1\n}', {"c": "x"}, '{\n  "c": "x",\n  "a": 1\n}'),
        ("toml", "[a]\nb = 1  # x\n", {"a.b": 2}, "[a]\nb = 2  # x\n"),
        ("toml", "[a]\nb = 1\n", {"a.c": "x"}, '[a]\nc = "x"\nb = 1\n'),
        ("toml", "[a]\nb = 1\n", {"z.c": 1}, None),
    ],
)
def test_a_key_is_set_in_its_place(syntax, text, words, after):
    (run,) = read(AXOLOTL, "run.yaml").runs
    (document,) = documents(text, syntax)
    assert applied(document, run.__class__(task="train"), words) == after


@pytest.mark.slow
def test_the_command_prints_the_diff_and_writes_the_file(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(AXOLOTL)
    assert menu.run([str(path), "--gpu", "4090", "--fix"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("--- a/")
    assert "+gradient_checkpointing: true\n" in told.out
    assert "it takes about" in told.err
    assert path.read_text() == AXOLOTL
    assert menu.run([str(path), "--gpu", "4090", "--fix", "--write"]) == 0
    assert path.read_text() == FIXED
    capsys.readouterr()
    assert menu.run([str(path), "--gpu", "4090", "--fix"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "fits as it is" in told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--fix"], 2, "--fix needs a card"),
        (["--write", "--gpu", "4090"], 2, "--write goes with --fix"),
        (["--fix", "--gpu-memory", "2GiB"], 1, "no change was found that surely fits"),
    ],
)
def test_what_cannot_be_fixed_is_one_line(tmp_path, capsys, words, code, says):
    path = tmp_path / "run.yaml"
    path.write_text(AXOLOTL)
    assert menu.run([str(path), *words]) == code
    assert says in capsys.readouterr().err
    assert path.read_text() == AXOLOTL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "shared"),
    [("x: &mb 4\nmicro_batch_size: *mb", "*mb"), ("micro_batch_size: &mb 4\nx: *mb", "&mb")],
)
def test_a_value_that_aliases_share_is_why_there_is_no_patch(tmp_path, capsys, size, shared):
    path = tmp_path / "run.yaml"
    text = AXOLOTL.replace("micro_batch_size: 4", size)
    path.write_text(text)
    assert menu.run([str(path), "--gpu", "4090", "--fix", "--write"]) == 1
    told = capsys.readouterr().err
    line = next(n for n, each in enumerate(text.split("\n"), 1) if each.startswith("micro"))
    assert f"run.yaml:{line}: no patch: YAML's aliases share this value ({shared})" in told
    assert path.read_text() == text


@pytest.mark.slow
def test_json_has_the_patch_in_it(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(AXOLOTL)
    assert menu.run([str(path), "--gpu", "4090", "--fix"]) == 0
    diff = capsys.readouterr().out
    assert menu.run([str(path), "--gpu", "4090", "--fix", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["patch"].strip() == diff.strip()
    assert told["fits"] == "no"
    path.write_text(FIXED)
    assert menu.run([str(path), "--gpu", "4090", "--fix", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["patch"] == ""
    assert menu.run([str(path), "--gpu-memory", "2GiB", "--fix", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["patch"] is None


@pytest.mark.slow
def test_the_example_of_the_docs_is_what_it_prints(tmp_path, monkeypatch, capsys):
    """Four sequences of 4,096 tokens with QLoRA, as docs/reference.md shows them."""
    monkeypatch.chdir(tmp_path)
    text = AXOLOTL.replace("8192", "4096").replace("lora_r: 64", "lora_r: 32")
    text = text.partition("\nplugins")[0].replace("bf16", "flash_attention: true\nbf16")
    (tmp_path / "run.yaml").write_text(text)
    assert menu.run(["run.yaml", "--gpu", "4090", "--fix"]) == 0
    told = capsys.readouterr()
    shown = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    assert told.out in shown
    assert " ".join(told.err.split()) in " ".join(shown.split())


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_that_is_written_keeps_its_mark_and_its_ends_of_lines(tmp_path, encoding, end):
    path = tmp_path / "run.yaml"
    path.write_bytes(AXOLOTL.replace("\n", end).encode(encoding))
    assert menu.run([str(path), "--gpu", "4090", "--fix", "--write"]) == 0
    raw = path.read_bytes()
    text = raw.decode(encoding)
    assert text.encode(encoding) == raw
    assert text.count("\r\n") == (text.count("\n") if end == "\r\n" else 0)
    assert text.replace("\r\n", "\n") != AXOLOTL


def test_a_file_that_changed_meanwhile_is_not_written(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("a: 1\n# edited\n")
    with pytest.raises(UsageError, match="was changed meanwhile: nothing is written"):
        _raw(str(path), "a: 1\n")
    assert _raw(str(path), "a: 1\n# edited\n") == b"a: 1\n# edited\n"
