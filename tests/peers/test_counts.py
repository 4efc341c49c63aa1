"""Counts, dtypes and forms of input that other estimators get wrong."""

import json
import os
import re
import struct

import pytest

import weighbridge
from tests import packings
from tests.formats.build_gguf import Writer
from tests.packings import PACKINGS, PARAMETERS
from tests.peers.conftest import (
    LLAMA_2_7B,
    LLAMA_3_8B,
    LLAMA_3_70B,
    QWEN3_06B,
    TINY,
    held,
    listed,
    parameters,
    repo,
    rows,
    size_of,
)
from weighbridge.faces.cli.menu import run
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config


# llm-analysis 0.2.2 and its git head, EleutherAI cookbook, llm-resource-planner 0.2.0, gpu_poor
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA_2_7B, 6_738_415_616),  # a feed-forward ratio of 2.69
        (LLAMA_3_8B, 8_030_261_248),  # not 6.16, 6.44, 6.99 or 7.50 B
        (LLAMA_3_70B, 70_553_706_496),
        (QWEN3_06B, 596_049_920),  # tied; heads of 128, not 1024 / 16
    ],
)
def test_published_counts_of_configs(config, expected):
    assert parameters(config) == expected


def test_head_dim_is_not_hidden_by_heads():
    nemo = LLAMA_3_8B | {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "vocab_size": 131072,
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "head_dim": 128,
    }
    assert parameters(nemo) == parameters("mistral-nemo-12b") == 12_247_782_400


@pytest.mark.parametrize(
    ("name", "expected"),
    [("llama-2-7b", 6_738_415_616), ("llama-3-8b", 8_030_261_248), ("qwen3-0.6b", 596_049_920)],
)
def test_published_counts_of_the_catalogue(name, expected):
    assert parameters(name) == expected


def test_top_k_of_every_spelling():
    """num_experts_per_tok, moe_top_k, moe_topk, top_k_experts...: the family's own."""
    for name in ("dbrx", "deepseek-v3", "qwen3-30b-a3b", "phi-3.5-moe", "jamba-v0.1"):
        assert listed(name).active_parameters < 0.5 * listed(name).parameters


# torchinfo 1.8.0, EleutherAI cookbook: tied embeddings
def test_tied_embeddings_are_counted_once():
    two_layers = LLAMA_3_8B | {"num_hidden_layers": 2, "tie_word_embeddings": True}
    assert parameters(two_layers) == 961_564_672  # not 1,486,901,248


@pytest.mark.slow
def test_a_head_stored_twice_is_counted_once(tmp_path):
    """Qwen3-0.6B on the Hub: 751,632,384 stored values, 596,049,920 parameters."""
    names = {p.name: ("BF16", p.shape) for p in blueprint(Config(QWEN3_06B)).params if not p.tied}
    assert "lm_head.weight" not in names
    stored = names | {"lm_head.weight": ("BF16", (151936, 1024))}
    report = weighbridge.load(repo(tmp_path, stored, QWEN3_06B))
    assert report.model.parameters == 596_049_920
    assert report.model.stored_bytes == 2 * 751_632_384
    assert held(report) == 2 * 596_049_920
    assert rows(report)["float32"].total_bytes == 4 * 596_049_920


# llm-d-planner, llm-mem 0.1.1: quantized and mixed repositories
@pytest.mark.parametrize("packing", [n for n in PACKINGS if "4" in n])
def test_four_bit_weights_do_not_weigh_nothing(tmp_path, packing):
    report = weighbridge.load(repo(tmp_path, PACKINGS[packing][1], packings.config(packing)))
    assert held(report) >= 2 * packings.LEFT + packings.PACKED // 2


def test_a_repository_of_mixed_dtypes(tmp_path):
    tensors = packings.plain() | {
        "model.norm.weight": ("F32", (packings.HIDDEN,)),
        "model.embed_tokens.weight": ("F16", (packings.VOCAB, packings.HIDDEN)),
        "lm_head.weight": ("F8_E4M3", (packings.VOCAB, packings.HIDDEN)),
    }
    report = weighbridge.load(repo(tmp_path, tensors))
    assert report.model.parameters == PARAMETERS
    assert report.model.stored_bytes == size_of(tensors)


def test_a_quantized_config_alone_is_packed_too():
    """GPTQ without its weights: the config says what they are."""
    config = packings.config("gptq 4-bit")
    report = weighbridge.load(config)
    assert report.model.parameters == PARAMETERS
    assert held(report) == size_of(PACKINGS["gptq 4-bit"][1])


# llmfit 1.1.17: the catalogue; xtuner: billions
@pytest.mark.slow
def test_no_entry_has_half_the_parameters_of_its_name():
    """Dense ones; a mixture may be called by its active part."""
    for name in catalogue.names():
        said = re.findall(r"(?:^|-)(\d+(?:\.\d+)?)b(?=-|$)", name)
        if said and "experts" not in json.dumps(catalogue.find(name).config):
            assert 0.7 <= listed(name).parameters / (float(said[0]) * 1e9) <= 1.6, name


def test_billions_are_of_ten(capsys):
    assert run(["load", "qwen3-8b"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "8.19 B" in first  # not 7.63
    assert "8,190,735,360" in first


# vram-check 0.1.1: names of dtypes
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bf16", "bfloat16"),
        ("fp16", "float16"),
        ("half", "float16"),
        ("fp32", "float32"),
        ("float", "float32"),
        ("torch.bfloat16", "bfloat16"),
    ],
)
def test_names_of_dtypes_mean_one_thing(typed, meant):
    report = weighbridge.load(TINY, dtype=typed)
    assert report.workload["dtype"] == meant
    assert held(report) == PARAMETERS * {"float32": 4}.get(meant, 2)


# gpu_poor: one input in several forms
@pytest.mark.slow
def test_every_form_of_a_model_gives_one_answer(hub):
    folder = hub.root / "org" / "plain"
    forms = (
        TINY,
        str(folder),
        folder,
        str(folder / "config.json"),
        "org/plain",
        "hf://org/plain",
        "org/plain@main",
        f"{hub.endpoint}/org/plain",
    )
    answers = set()
    for form in forms:
        report = weighbridge.load(form)
        answers.add((report.model.parameters, report.table, report.peak))
    assert len(answers) == 1


# Red Hat training_hub, hf-mem: whose weights are fetched?
@pytest.mark.slow
def test_weights_are_never_downloaded(hub, tmp_path):
    big = LLAMA_2_7B | {"num_hidden_layers": 1}
    shapes = {
        "model.embed_tokens.weight": ("F16", (32000, 4096)),
        "lm_head.weight": ("F16", (32000, 4096)),
    }
    repo(hub.root / "org" / "big", shapes, big)
    weighbridge.load("org/big")
    assert hub.sent < 110_000  # one first read, of 500 MB
    assert list((tmp_path / "home").rglob("*.safetensors")) == []


# torchtitan, unsloth Studio: sizes that only long integers hold
def test_a_gguf_of_a_trillion_parameters(tmp_path):
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    w.tensor("blk.0.ffn_up_exps.weight", [8192, 32768, 4096], 0, nbytes=4 << 40)
    head = w.head()
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 31 + (4 << 40))
    assert os.stat(path).st_size > 1 << 42
    assert parameters(str(path)) == 1 << 40
    assert struct.calcsize("P") == 8
