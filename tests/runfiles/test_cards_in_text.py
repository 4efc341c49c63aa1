"""Cards of a text: which are taken, which are named alone, and what is assumed of their number."""

import pytest

import weighbridge
from weighbridge.files.oom import explained
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.cards import part_id

LISTED = """\
0: NVIDIA GeForce RTX 5070 Ti 16303MiB
1: NVIDIA GeForce RTX 5090 D 32607MiB

vllm-0.15.2rc1.dev93+g11a4c9d30.cu128-cp312
`VLLM_PP_LAYER_PARTITION=16,32 vllm serve qwen3-0.6b --max-model-len 1024 --pipeline-parallel-size 2`
Out of memory.
"""
FULL = (
    "ValueError: To serve at least one request with the models's max seq len (262144), (24.0 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (3.18 GiB). Based on the "
    "available memory, the estimated maximum model length is 34736."
)
MAC = "qwen3-8b with MLX. Hardware: Mac Studio, Apple M1 Max. Unified memory: {}. Memory?"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("qwen3-8b with vLLM on 2x RTX 3090? I have a 3060.", "RTX 3090, 3060"),
        ("Does qwen3-8b fit on 8x H100 80GB? On 8x H200?", "H100 80GB, H200"),
        (MAC.format("unknown"), "M1 Max"),
    ],
)
def test_cards_that_are_not_taken_are_named(text, names):
    (run,) = read(text).runs
    assert "gpu" not in run.settings
    assert any(f"({names}): none is taken" in note for note in run.notes)


def test_a_card_that_is_taken_needs_no_note():
    (run,) = read("qwen3-8b with vLLM on my 3090, memory?").runs
    assert not any("is taken" in note for note in run.notes)


def test_the_memory_of_a_mac_stands_apart_from_its_name():
    (run,) = read(MAC.format("32 GB")).runs
    assert run.settings["gpu"] == "M1 Max 32GB"


def test_cards_that_are_listed_are_taken_as_they_are_and_the_release_too():
    (weighed,) = weighbridge.weigh(LISTED, name="a.txt", offline=True).runs
    assert weighed.run.settings == {
        "gpu": "GeForce RTX 5070 Ti+GeForce RTX 5090 D",
        "engine_version": "0.15.2",
    }
    # a text that names the 28 layers of a model otherwise than it has them
    assert (
        "--pp-layer-partition 16,32: it says how many layers each stage has, and these are 48"
        in weighed.why
    )


def test_several_releases_of_an_engine_are_none():
    (run,) = read("vLLM 0.9.2 and vLLM 0.15.2:\n`vllm serve qwen3-8b` needs memory").runs
    assert "engine_version" not in run.settings


def test_a_number_of_cards_that_is_reckoned_is_no_word_of_the_text():
    text = (
        "NAME  ID  SIZE\nqwen3.6:27b-bf16  c3a702fca756  85 GB  100% GPU  4096  Forever\n"
        "0       3     0x66a1,   52718  37.0C\n1       4     0x66a1,   4670   40.0C\n"
    )
    (run,) = read(text).runs
    assert run.settings["gpu"] == "MI50 32GB:3"
    assert [one.value for one in run.understood if one.setting == "gpu"] == ["MI50 32GB"]
    assert run.defaults[0][:2] == ("gpu", "MI50 32GB:3")


@pytest.mark.parametrize(
    ("known", "paste"),
    [
        ({}, "--tensor-parallel-size 2"),
        ({"tensor_parallel_size": 2}, "--tensor-parallel-size 4"),
        ({"pipeline_parallel_size": 2}, ""),
    ],
)
def test_more_cards_are_more_than_are_in_use(known, paste):
    rows = explained(FULL, None, {"engine": "vllm", **known}).remedies
    pasted = [row.paste for row in rows if "tensor-parallel" in row.paste]
    assert pasted == ([paste] if paste else [])


@pytest.mark.parametrize(
    ("words", "gpu"),
    [
        ("a T4", "T4"),
        ("a Tesla T4 16GB", "T4 16GB"),
        ("an A10G", "A10G"),
        ("8张H800", "H800:8"),
        ("an RTX 6000 Ada", "RTX 6000 Ada"),
        ("an RTX PRO 6000 Blackwell", "RTX PRO 6000 Blackwell"),
        ("an RTX 4090 Laptop", "RTX 4090 Laptop"),
        ("my 4090, and my 4090 has 48GB", "4090 48GB"),
        ("a 4090 with 48GB of system memory", "4090"),
        ("a 7900 XTX", "7900 XTX"),
        ("dual 3090", "3090:2"),
        ("双卡4090", "4090:2"),
        ("two A100s", "A100:2"),
        ("3090s (x4)", "3090:4"),
        ("a 3090 2x faster", "3090"),
        ("an 8-GPU H100 node", "H100:8"),
        ("4 GPUs (A10G)", "A10G:4"),
        ("g5.12xlarge", "g5.12xlarge"),
        ("2 x rocm mi355x", "mi355x:2"),
        ("A800 7*80g", "A800 80GB:7"),
        ("七张 A800", "A800:7"),
        ("两张 A6000", "A6000:2"),
        ("4机8卡 H100", "H100:32"),
        ("4 nodes with 8 H100 each", "H100:32"),
        ("three nodes, each equipped with 8x H100", "H100:24"),
        ("2 nodes, 16 H100", "H100:16"),
        ("2xRTX A2000", "RTX A2000:2"),
        ("a 3090. My colleague has an A100", None),
        ("what my boss wants: a 3090", "3090"),
        ("a 3090. Would an A100 do?", None),
        ("a model called A10B", None),
        ("a T4 and a V100", None),
        ("an RTX 6000", None),
    ],
)
def test_names_and_numbers_of_cards(words, gpu):
    (run,) = read(f"qwen3-8b with vLLM on {words}").runs
    assert run.settings.get("gpu") == gpu


def test_machines_times_cards_are_all_of_them():
    """A title that counts machines, cards and a kind with stars, as "2*8*h20"."""
    (run,) = read("Training with vLLM on 2*8*h20 hangs, Qwen2.5-7B-Instruct", "text").runs
    assert run.settings["gpu"] == "h20:16"


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("kimi dies on a mac studio m3 ultra. 418gb of it, and the Mac Studio has 512gb", 512),
        ("m3 ultra, a 96GB Mac: qwen3-32b, memory?", 96),
        ("m3 ultra: my mac with 256 GB, of which 30gb are free, runs qwen3-32b", 256),
        ("m3 ultra: the Mac has 64GB, it says; qwen3-32b", None),  # there is none
        ("m3 ultra: one mac has 96GB, the other mac has 512GB; qwen3-32b", None),
        ("m3 ultra: the model is 418gb and runs out of memory at 480gb", None),
    ],
)
def test_what_a_mac_has_is_the_memory_of_its_chip(text, card):
    (run,) = read(text).runs
    known = [one.value for one in run.understood if one.setting == "gpu"]
    ids = [part_id(f"m3 ultra {card}GB")] if card else []
    assert [part_id(name) for name in known] == ids
