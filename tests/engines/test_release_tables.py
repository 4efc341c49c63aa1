"""Tables by release, from both sides of each of their boundaries, listed by hand."""

from itertools import pairwise

import pytest

from tests.cases import all_of
from weighbridge.engines.llama_cpp.rules import READ_EARLY, aborts_on_metal
from weighbridge.engines.llama_cpp.rules import rules as of_build
from weighbridge.engines.ollama import rules
from weighbridge.engines.ollama.rules import build
from weighbridge.engines.table import ENGINES
from weighbridge.engines.vllm.rules import ENCODER_DECODERS, registered

READ = frozenset(("BF16", *READ_EARLY))
READ_LATER = (
    "Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_XS IQ4_NL MXFP4"
)


def number(text):
    return tuple(map(int, text.split(".")))


def last_before(release):
    return (*release[:-1], release[-1] - 1, 99)


# LLAMA_CPP_VERSION of ollama/ollama, where a tag changed it; before 0.30 see ollama/rules.py
OLLAMA = """
0.6 4905  0.6.6 5122  0.6.7 5180  0.6.8 5230  0.7 5354  0.11.5 6150  0.12.4 6646  0.12.6 6753
0.12.11 6840  0.13.2 7108  0.13.3 7340  0.13.5 7437
0.30 9452  0.30.1 9479  0.30.4 9493  0.30.5 9509  0.30.9 9626  0.30.10 9672  0.30.11 9781
0.31 9840  0.31.2 9888  0.32.2 10069  0.32.3 10091  0.32.6 10242  0.32.8 10353  0.32.10 10380
0.32.14 10434  0.32.15 10488
"""


def test_builds_of_ollama():
    words = OLLAMA.split()
    told = [(number(r), int(b)) for r, b in zip(words[::2], words[1::2], strict=True)]
    assert [build(release) for release, _ in told] == [of for _, of in told]
    assert [build(last_before(new)) for _, (new, _) in pairwise(told)] == [
        of for _, of in told[:-1]
    ]


# The first release with an architecture: of Ollama's own runner, and with flash attention unasked
OWN = """
gemma3 0.6  mistral3 0.6.5  llama4 0.6.8  mllama 0.7  qwen25vl 0.7  gemma3n 0.11  gptoss 0.11
gpt-oss 0.11  qwen3 0.12  qwen3moe 0.12.4  qwen3vl 0.12.7  qwen3vlmoe 0.12.7  deepseekocr 0.13
deepseek2 0.13  nomic-bert 0.13.1  olmo3 0.13.4  bert 0.13.5  glm4moelite 0.15  lfm2 0.15
glmocr 0.15.5  qwen3next 0.15.5  lfm2moe 0.18  nemotron_h 0.18  nemotron_h_moe 0.18  qwen35 0.18
qwen35moe 0.18  gemma4 0.20  laguna 0.22  nemotron_h_omni 0.22
"""
FLASHING = """
gptoss 0.12  gpt-oss 0.12  qwen3 0.12.4  qwen3moe 0.12.4  gemma3 0.12.6  qwen3vl 0.12.8
qwen3vlmoe 0.12.8  mistral3 0.13.2  olmo3 0.13.4  bert 0.13.5  glm4moelite 0.15  lfm2 0.15
glmocr 0.15.5  qwen3next 0.15.5  lfm2moe 0.18  nemotron_h 0.18  nemotron_h_moe 0.18  qwen35 0.18
qwen35moe 0.18  gemma4 0.21  nemotron_h_omni 0.22
"""


@pytest.mark.parametrize(("table", "text"), [(rules.OWN, OWN), (rules.FLASHING, FLASHING)])
def test_architectures_of_ollama(table, text):
    words = text.split()
    told = {arch: number(release) for arch, release in zip(words[::2], words[1::2], strict=True)}
    assert rules.of_release(table, (0, 29)) == set(told)
    for arch, first in told.items():
        assert arch in rules.of_release(table, first), arch
        assert arch not in rules.of_release(table, last_before(first)), arch


# Classes of an encoder and a decoder in model_executor/models/registry.py of vLLM: the first
# release with each, and the first without ("-": the newest has it)
VLLM = """
BartModel                             0.9     0.11
BartForConditionalGeneration          0.9     0.11
CohereAsrForConditionalGeneration     0.19    -
DonutForConditionalGeneration         0.10.1  0.11
FireRedASR2ForConditionalGeneration   0.17    -
Florence2ForConditionalGeneration     0.9     0.11
MBartForConditionalGeneration         0.10.1  0.11
MllamaForConditionalGeneration        0.9     0.11
NemotronParseForConditionalGeneration 0.14    -
WhisperForConditionalGeneration       0.9     -
"""


def test_encoders_and_decoders_of_vllm():
    told = [line.split() for line in VLLM.strip().splitlines()]
    assert {cls for cls, *_ in told} == set(ENCODER_DECODERS)
    for cls, first, ended in told:
        assert registered(cls, number(first)), cls
        assert not registered(cls, last_before(number(first))), cls
        assert registered(cls, (0, 33) if ended == "-" else last_before(number(ended))), cls
        assert ended == "-" or not registered(cls, number(ended)), cls
    assert not registered("T5ForConditionalGeneration", (0, 33))


# The first build of llama.cpp with each of these, by the pull requests that llama_cpp/rules.py names
LLAMA_CPP = """
latents 5130  windows 5432  glu 5782  late_views 5782  set_rows 6060  slots_in_graph 6410
groups_experts 6410  clamps_weights 6410  keys_last 7000  keeps_outputs 7000  embeds_input 7800
rotates_cache 8550  half_mask 9150  predicts 9180  few_outputs 9470  fattn_copies 9520
kept_experts 10850  whole_rope 10850  flat_projection 10850  rms_delta 10850  late_rows 10850
all_inputs 10850
"""


def test_builds_of_llama_cpp():
    words = LLAMA_CPP.split()
    for name, since in zip(words[::2], map(int, words[1::2]), strict=True):
        assert [getattr(of_build(n), name) for n in (since - 1, since)] == [False, True], name


@all_of(
    ("since", "name", "before_it", "then"),
    [
        (5913, "unified", True, False),  # each slot has its part, until a server counts them itself
        (6325, "flash", "off", "auto"),
        (6325, "gpu_layers", 0, None),
        (6730, "cache_ram", 0, 8192),
        (6927, "server_slots", 1, 4),
        (6927, "server_unified", False, True),
        (7000, "mask_pad", 64, 1),
        (7000, "rotary_first", True, False),
        (7830, "latent_values", True, False),
        (8681, "early_per_layer", "no", "perhaps"),
        (10089, "read_rows", READ, READ | frozenset(READ_LATER.split())),
        (8750, "early_per_layer", "perhaps", "yes"),
        (10_300, "no_kernel", {"TQ1_0", "TQ2_0", "Q2_0"}, {"TQ1_0", "TQ2_0"}),
    ],
)
def test_defaults_of_llama_cpp(since, name, before_it, then):
    assert [getattr(of_build(n), name) for n in (since - 1, since)] == [before_it, then]


@all_of(
    ("build_", "types", "aborts"),
    [
        (99_999, ["TQ1_0"], ["TQ1_0"]),
        (10_769, ["Q4_0", "TQ2_0"], ["TQ2_0"]),
        (10_770, ["TQ2_0"], []),
        (10_299, ["Q2_0"], ["Q2_0"]),
        (10_300, ["Q2_0", "Q4_0"], []),
    ],
)
def test_products_that_end_a_process_on_a_mac(build_, types, aborts):
    assert aborts_on_metal(types, build_) == aborts


@pytest.mark.parametrize("kind", ["transformers", "sglang", "vllm", "ollama"])
def test_releases_with_a_class_follow_each_other(kind):
    """A row has the first release with its names, and the last that was read without them, which is
    not before the first of the row above; no name comes twice."""
    rows = ENGINES[kind].knowing
    assert all(row.before < row.since for row in rows)
    assert all(above.since <= below.before for above, below in pairwise(rows))
    names = [name for row in rows for name in row.names.split()]
    assert len(names) == len(set(names))


# The last of each series on PyPI
LAST = {
    "transformers": """
4.30.2 4.31.0 4.32.1 4.33.3 4.34.1 4.35.2 4.36.2 4.37.2 4.38.2 4.39.3 4.40.2 4.41.2 4.42.4 4.43.4
4.44.2 4.45.2 4.46.3 4.47.1 4.48.3 4.49.0 4.50.3 4.51.3 4.52.4 4.53.3 4.54.1 4.55.4 4.56.2 4.57.6
5.0.0 5.1.0 5.2.0 5.3.0 5.4.0 5.5.4 5.6.2 5.7.0 5.8.1 5.9.0 5.10.4 5.11.0 5.12.1 5.13.1 5.14.1
5.15.1 5.16.1 5.17.0 5.18.0 5.19.0 5.20.2 5.21.1 5.22.2
""",
    "vllm": """
0.9.2 0.10.2 0.11.2 0.12.0 0.13.0 0.14.1 0.15.1 0.16.0 0.17.1 0.18.1 0.19.1 0.20.2 0.21.0 0.22.1
0.23.0 0.24.0 0.25.1 0.26.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0 0.32.0
""",
}


@pytest.mark.parametrize("kind", LAST)
def test_a_release_without_a_class_was_published(kind):
    last = {release[:2]: release for release in map(number, LAST[kind].split())}
    rows = ENGINES[kind].knowing
    assert [row for row in rows if not row.before <= last[row.before[:2]]] == []
