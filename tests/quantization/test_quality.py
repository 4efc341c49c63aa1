"""Published figures of quality: rows as their pages print them, the traps, the laws of the lookup."""

import json
from pathlib import Path

import pytest

from tests.cases import all_of
from weighbridge.models.quantization import quality
from weighbridge.models.quantization.quality import published
from weighbridge.models.quantization.schemes import scheme

SCOREBOARD = "c392e5094deaf2d1a7c18683214f007fad3fe42b/examples/perplexity/README.md"


def rows(page, model, metric="perplexity", under=None):
    return {
        row.label: (table, row)
        for table in quality.tables()
        for row in table.rows
        if page in table.page and model in table.model and table.metric == metric
        if under is None or table.under == under
    }


@all_of(
    ("form", "value", "percent", "line"),
    [  # llama.cpp's scoreboard of Llama 3 8B: f16 is 6.23316
        ("Q8_0", 6.234284, 0.018, 52),
        ("Q6_K", 6.253382, 0.324, 53),
        ("Q5_K_M", 6.288607, 0.890, 54),
        ("Q4_K_M", 6.407115, 2.791, 59),
        ("Q4_0", 6.700147, 7.492, 65),
        ("Q3_K_M", 6.888498, 10.514, 69),
        ("Q2_K", 9.751568, 56.447, 88),
    ],
)
def test_figures_are_those_that_the_scoreboard_prints(form, value, percent, line):
    found = published("llama-3-8b", 8_030_261_248, form)
    assert (found.value, found.baseline) == (value, 6.23316)
    assert found.change == pytest.approx(percent, abs=0.001)
    assert found.source.endswith(f"{SCOREBOARD}#L{line}")
    assert (found.metric, found.measured_on, found.near) == (
        "perplexity",
        "Meta-Llama-3-8B",
        "model",
    )


@all_of(
    ("name", "billions", "form", "value", "baseline", "page"),
    [
        ("llama-7b", 6.7, "nf4", 5.3, 5.22, "GPTQ-for-LLaMa"),
        ("llama-7b", 6.7, "gptq-4bit-g128", 5.85, 5.68, "GPTQ-for-LLaMa"),
        ("llama-7b", 6.7, "fp4", 5.33, 5.22, "GPTQ-for-LLaMa"),
        ("llama-2-7b", 6.7, "awq-4bit-g128", 5.6, 5.47, "2306.00978"),
        ("llama-3.1-8b", 8.03, "gptq-4bit-g128", 6.92, 6.24, "llm-compressor"),
        ("llama-3.1-8b", 8.03, "awq-4bit-g128", 6.89, 6.24, "llm-compressor"),
        ("qwen3-8b", 8.19, "mlx-4bit-g64", 7.366, 5.942, "mlx-lm/pull/202"),
        ("deepseek-r1-distill-llama-8b", 8.03, "awq-4bit-g128", None, None, "llm-awq"),
    ],
)
def test_figures_of_other_pages(name, billions, form, value, baseline, page):
    found = published(name, int(billions * 1e9), form)
    assert page in found.source
    assert found.near == "model"
    if value is not None:
        assert (found.value, found.baseline) == (value, baseline)
        assert found.change == pytest.approx(100 * (value / baseline - 1))


def test_every_row_has_a_page_and_every_format_is_ours():
    for table in quality.tables():
        assert table.page.startswith("https://")
        assert table.rows
        for form in {form for row in table.rows for form in row.formats}:
            assert table.of == "kv cache" or scheme(form).name == form
        assert table.metric in quality.METRICS
        if table.metric in ("perplexity", "word", "accuracy"):
            assert table.baseline


def test_the_file_stays_small():
    file = Path(quality.__file__).parent / "quality.jsonl"
    assert file.stat().st_size < 120_000
    assert all(json.loads(line) for line in file.read_text().splitlines())


def everything():
    """All that may answer."""
    for family in quality.families():
        for found in quality.entries(family).values():
            yield from found


# The traps


def test_the_misprinted_figure_of_llama_2_is_not_there():
    """The page prints f16's value in the cell of q2_K."""
    found = rows("examples/perplexity", "Llama-2-7b-hf")
    assert "q2_K" not in {label for label, (_, row) in found.items() if row.value < 5.8}
    assert all(row.value != table.baseline for table, row in found.values())


def test_a_name_is_no_recipe_files_of_several_makers_are_a_range():
    found = published("qwen3.5-9b", 9_000_000_000, "Q4_K_M")
    assert found.metric == "kl_divergence"
    assert (round(found.least, 4), round(found.change, 4)) == (0.0087, 0.0353)
    assert found.caution == "community post"


def test_pure_files_without_a_baseline_are_left_out():
    assert not any("pull_requests/295" in t.page for t in quality.tables())
    assert not any("pull_requests/302" in t.page for t in quality.tables())


def test_files_with_and_without_an_importance_matrix_are_apart():
    """Q2_K of Llama 3 8B: 9.75 without, 8.65 with."""
    without = rows("examples/perplexity", "Llama-3-8B", under="no imatrix")["q2_K"][1]
    with_it = rows("examples/perplexity", "Llama-3-8B", under="imatrix of 10m Wikitext tokens")
    assert (without.value, with_it["q2_K"][1].value) == (9.751568, 8.647825)
    assert published("llama-3-8b", int(8e9), "Q2_K").value == without.value
    assert published("llama-3-8b", int(8e9), "IQ2_XS").under.startswith("imatrix")


def test_a_result_below_its_baseline_is_no_gain():
    below = [
        (table, row)
        for table in quality.tables()
        for row in table.rows
        if table.baseline and table.metric == "perplexity" and row.value < table.baseline
    ]
    assert len(below) > 3  # Gemma 3 QAT, Qwen3-30B-A3B ...
    assert all(table.change(row) == 0 for table, row in below)
    assert published("qwen3-30b-a3b", int(30.5e9), "fp8-tensor", experts=True).change == 0


def test_noise_of_storage_is_no_divergence():
    table, row = rows("examples/perplexity", "Llama-3-8B", "kl", "no imatrix")["q8_0"]
    assert table.change(row) == row.value
    assert table.change(row._replace(value=0.0005)) == 0


def test_words_and_tokens_are_two_scales():
    """lm-eval's perplexity is by word: 7.33 for a model whose tokens have 6.24."""
    found = published("llama-3.1-8b", int(8.03e9), "nvfp4")
    assert found.metric == "word_perplexity"
    for table in quality.tables():
        assert (table.metric == "perplexity") <= ("word perplexity" not in table.text)


def test_what_only_simulates_a_format_does_not_speak_for_it():
    """Nor what was trained further, nor what contradicts itself."""
    for entry in everything():
        assert entry.table.caution not in quality.NEVER
    assert {t.caution for t in quality.tables()} >= {"simulated", "trained further"}


def test_what_was_measured_against_a_quantized_file_says_nothing():
    assert published("deepseek-v3", int(671e9), "Q4_K_M", experts=True) is None
    assert all(e.table.baseline_name != "Q8_0" for e in everything())


def test_tasks_that_swing_do_not_speak():
    for entry in everything():
        if entry.table.metric == "accuracy":
            assert not entry.table.text.lower().startswith(("gsm8k", "humaneval", "aime", "gpqa"))


def test_caches_are_not_weights():
    cache = published("llama-3-8b", int(8.03e9), "q8_0", of="kv cache")
    assert cache.change == pytest.approx(0.0349, abs=0.001)
    assert "7412" in cache.source
    assert published("llama-3-8b", int(8.03e9), "q8_0") is None  # weights are Q8_0


# The laws of the lookup


def test_a_finding_never_crosses_sources():
    """Value and baseline of every answer stand in one table of one page."""
    known = {
        (table.source(row), row.value, table.baseline, table.model.rpartition("/")[2])
        for table in quality.tables()
        for row in table.rows
    }
    for name in ("llama-3.1-8b", "qwen3-32b", "llama-2-70b", "mixtral-8x7b", "glm-4.6", "qwen-7b"):
        for of, form in quality.entries(quality.family(name)[0]):
            found = published(name, int(32e9), form, of=of)
            if found is not None:
                assert (found.source, found.value, found.baseline, found.measured_on) in known


def test_the_model_itself_goes_before_its_kin():
    plain = (e for e in everything() if e.table.metric == "perplexity" and not e.table.caution)
    for t, _, rows in plain:
        for form in rows[0].formats:
            asked = published(t.model, int(t.billions * 1e9), form, experts=t.experts, of=t.of)
            assert asked.near == "model", (t.model, form, asked)


def test_a_nearer_generation_goes_before_a_nearer_size():
    found = published("llama-3.1-70b", int(70.6e9), "Q4_K_M")
    assert (found.measured_on, found.near) == ("Meta-Llama-3-8B", "generation")


@all_of("name", ["bert-base", "tinyllama-1.1b", "sdxl", "codellama-7b", "7B", ""])
def test_no_figure_is_invented_for_a_strange_family(name):
    assert published(name, int(7e9), "Q4_K_M") is None


def test_no_figure_is_invented_for_a_size_far_away():
    assert published("llama-3.2-1b", int(1.2e9), "Q4_K_M") is not None
    assert published("llama-3-tiny", int(0.1e9), "Q4_K_M") is None
    assert published("llama-3.1-8b", int(8e9), "bnb-int8") is None


@all_of(
    ("name", "family", "generation"),
    [
        ("meta-llama/Meta-Llama-3-8B", "llama", "3"),
        ("llama-3.1-70b-instruct", "llama", "3.1"),
        ("LLaMA-7B", "llama", ""),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "qwen", "2.5"),
        ("microsoft/phi3.5-mini-instruct", None, None),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek", "3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen", "?"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "llama", "3.1"),
        ("google/gemma-2b-it", "gemma", ""),
        ("mistralai/Mixtral-8x7B-v0.1", "mixtral", ""),
    ],
)
def test_names_tell_a_family(name, family, generation):
    found = quality.family(name)
    assert found == (None if family is None else (family, generation))
