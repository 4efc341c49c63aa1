""""""

import re

import pytest

import weighbridge
from tests import packings
from tests.packings import PARAMETERS
from tests.peers.conftest import LLAMA_3_8B, LLAMA_3_70B, TINY, gib, held, parameters, repo, rows
from weighbridge.faces.cli.menu import run


# accelerate 1.15.0
def test_lm_head_is_counted():
    report = weighbridge.load(LLAMA_3_8B)
    assert report.model.parameters == 8_030_261_248
    assert gib(rows(report)["float16"].total_bytes) == 14.96
    assert gib(rows(weighbridge.load(LLAMA_3_70B))["float16"].total_bytes) == 131.42
    headless = weighbridge.load(LLAMA_3_8B, base_model=True)
    assert report.model.parameters - headless.model.parameters == 128256 * 4096
    assert gib(rows(headless)["float16"].total_bytes) == 13.98


@pytest.mark.parametrize("stored", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("declared", [None, "float16", "bfloat16", "float32"])
def test_the_declared_dtype_leaks_into_no_row(tmp_path, stored, key, declared):
    """accelerate#3379: a float16 70B was halved twice."""
    config = {k: v for k, v in TINY.items() if k != "torch_dtype"} | {key: declared}
    for model in (config, repo(tmp_path, packings.plain(stored), config)):
        found = {name: row.total_bytes for name, row in rows(weighbridge.load(model)).items()}
        plain = {"float32": 32, "float16": 16, "bfloat16": 16, "fp8": 8, "int8": 8, "int4": 4}
        assert {name: found[name] for name in plain} == {
            n: PARAMETERS * b // 8 for n, b in plain.items()
        }


SIZES = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}


def test_training_is_the_sum_of_what_coexists():
    row = rows(weighbridge.load(LLAMA_3_8B))["float16"]
    assert gib(row.training_adam_bytes) == 119.66  # not 55.92
    assert row.training_adam_bytes == 16 * 8_030_261_248


def test_int8_and_int4_of_bitsandbytes_keep_what_it_keeps():
    found = rows(weighbridge.load(LLAMA_3_8B | {"dtype": "bfloat16"}))
    matrices = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 14336)
    outputs = 32 * (2 * 4096 + 2 * 1024 + 2 * 14336 + 4096)
    rest = 8_030_261_248 - matrices
    assert found["bnb-int8"].total_bytes == matrices + 4 * outputs + 2 * rest
    assert found["nf4"].total_bytes >= matrices // 2 + matrices // 64 * 4 + 2 * rest
    assert found["nf4"].total_bytes <= matrices // 2 + matrices // 64 * 4 + 2 * rest + 224 * 512
    assert found["int4"].total_bytes == 8_030_261_248 // 2


def test_a_bool_buffer_is_a_byte_a_value():
    """GPT-2 of transformers 4 holds causal masks: 1,024 x 1,024 in each of 12 layers."""
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **SIZES}
    report = weighbridge.load(gpt2, engine_version="4.40")
    masks = 12 * 1024 * 1024
    assert masks <= held(report, "buffers") <= masks + 12 * 512


def test_a_stored_bool_mask_is_a_byte_a_value(tmp_path):
    gpt2 = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": 0,
        "n_embd": 8,
        "n_head": 1,
        "vocab_size": 9,
        "n_positions": 16,
    }
    tensors = {
        "wte.weight": ("F32", (9, 8)),
        "wpe.weight": ("F32", (16, 8)),
        "ln_f.weight": ("F32", (8,)),
        "ln_f.bias": ("F32", (8,)),
        "h.0.attn.bias": ("BOOL", (1, 1, 16, 16)),
    }
    report = weighbridge.load(repo(tmp_path, tensors, gpt2))
    assert report.model.parameters == 9 * 8 + 16 * 8 + 16
    assert report.model.stored_bytes == 4 * (9 * 8 + 16 * 8 + 16) + 256


@pytest.mark.slow
def test_gib_is_never_written_gb(capsys):
    assert run(["estimate-memory", "llama-3.1-8b", "--dtypes", "float16"]) == 0
    text = capsys.readouterr().out
    assert "14.96 GiB" in text
    assert not re.search(r"\b[GM]B\b", text)
    assert run(["load", "llama-3.1-8b"]) == 0
    text = capsys.readouterr().out
    assert "14.96 GiB (16.1 GB)" in text or "15.0 GiB (16.1 GB)" in text  # as downloads are sold
    assert not re.search(r"\d [GM]B\b", text.replace("(16.1 GB)", ""))
    assert run(["load", "llama-3.1-8b", "--unit", "GB"]) == 0
    text = capsys.readouterr().out
    assert "16.06 GB" in text
    assert "GiB" not in text


def test_bert_base_as_accelerate_measured_it(capsys):
    assert run(["estimate-memory", "bert-base-cased", "--base-model"]) == 0
    assert "413.18 MiB" in capsys.readouterr().out


# Vokturz and others: remote code
def test_code_of_a_repository_is_neither_fetched_nor_run(hub, tmp_path):
    config = {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"},
    }
    folder = hub.root / "org" / "own"
    repo(folder, {"a.weight": ("F32", (4, 4))}, config)
    witness = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(witness)!r}, 'w')\n")
    for model in ("org/own", str(folder)):
        assert parameters(model) == 16
    assert not witness.exists()
    assert hub.asked(r"\.py") == []


# accelerate: docs/source/usage_guides/model_size_estimator.md, where MB and GB are MiB and GiB
@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "float32"),
    [
        (["bert-base-cased", "--base-model"], ("86.46 MiB", "413.18 MiB", "1.61 GiB")),
        (
            ["HuggingFaceM4/idefics-80b-instruct", "--base-model", "--engine-version", "4.57"],
            ("3.02 GiB", "297.12 GiB", "1.16 TiB"),
        ),
        (
            ["timm/resnet50.a1_in1k", "--library_name", "timm"],
            ("9.00 MiB", "97.70 MiB", "389.97 MiB"),
        ),
    ],
)
def test_the_three_examples_of_accelerates_tutorial(capsys, hub, typed, float32):
    """No network, torch or timm. The embeddings of BERT are one module that is never split."""
    assert run(["estimate-memory", *typed, "--offline"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "float32" in line)
    assert tuple(cell.strip() for cell in row.strip("│").split("│"))[1:] == float32


@pytest.mark.slow
def test_what_accelerate_would_print_is_said(capsys):
    assert run(["estimate-memory", "bert-base-cased"]) == 0
    said = capsys.readouterr()
    assert "413.30 MiB" in said.out
    assert said.err.endswith(
        "note: accelerate counts BertModel, without its head: 413.18 MiB in float32; "
        "--base-model shows that table\n"
    )
