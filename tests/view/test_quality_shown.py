"""What formats cost in quality, as reports, screens and remedies tell it: one fact, one table."""

import re

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers.remedies import losses
from weighbridge.base.words import words_in
from weighbridge.faces.render import render
from weighbridge.faces.view.changes import quality_cell
from weighbridge.faces.view.records import RenderOptions
from weighbridge.models.quantization.quality import published

LLAMA, QWEN = weighbridge.load("llama-3.1-8b"), weighbridge.load("qwen3-8b")


def rows(report):
    return {row["dtype"]: row["quality"] for row in report.to_dict()["table"]}


def test_a_row_of_the_report_has_its_figure_and_page():
    found = rows(LLAMA)
    told = found["Q4_K_M"]
    assert told["metric"] == "perplexity"
    assert told["change"] == pytest.approx(100 * (6.407115 / 6.23316 - 1))
    assert told["unit"] == "percent"
    assert told["measured_on"] == "Meta-Llama-3-8B"
    assert told["source"].startswith("https://github.com/ggerganov/llama.cpp/blob/")
    assert found["bnb-int8"] is None
    assert [found[name] for name in ("float32", "bfloat16", "int4")] == [None] * 3


@all_of(
    ("form", "en", "zh"),
    [
        ("Q4_K_M", "+2.8 % perplexity (Meta-Llama-3-8B)", "困惑度 +2.8 %(Meta-Llama-3-8B)"),
        ("Q8_0", "+0.02 % perplexity (Meta-Llama-3-8B)", "困惑度 +0.02 %(Meta-Llama-3-8B)"),
        ("awq-4bit-g128", "+10 % perplexity", "困惑度 +10 %"),
        ("nvfp4", "+15 % perplexity by word", "按词困惑度 +15 %"),
        ("bnb-int8", "none published", "无公开数据"),
    ],
)
def test_words_of_a_cell(form, en, zh):
    (row,) = (r for r in LLAMA.table if r.dtype == form)
    assert (
        quality_cell(words_in("en"), row.quality),
        quality_cell(words_in("zh"), row.quality),
    ) == (en, zh)


def test_scores_divergence_and_no_loss_in_words():
    scores = {r.dtype: quality_cell(words_in("en"), r.quality) for r in QWEN.table}
    assert scores["awq-4bit-g128"] == "-1.6 % MMLU"
    assert scores["fp8-tensor"] == "no measurable loss"
    makers = quality_cell(words_in("en"), published("qwen3.5-9b", int(9e9), "Q4_K_M"))
    assert makers == "KL 0.035 at most, by maker"


def test_the_column_is_there_where_something_is_published():
    assert "quality" in render(LLAMA, "human")
    assert "+2.8 % perplexity" in render(LLAMA, "human", RenderOptions(width=120))
    assert "+2.8 % perplexity" in render(LLAMA, "markdown", RenderOptions(details=True))
    assert "+2.8 % perplexity" in render(LLAMA, "html")
    nobody = weighbridge.load("vit-base-patch16-224")
    assert not any(r.quality for r in nobody.table)
    assert "published" not in render(nobody, "human")
    assert "quality" not in render(nobody, "human")


def test_explain_names_the_page():
    told = re.sub(r"\s", "", render(LLAMA, "human", RenderOptions(explain=True)))
    assert "examples/perplexity/README.md#L59" in told


def test_remedies_say_what_the_table_says():
    cost = losses.cost(LLAMA.model, "Q4_K_M")
    found = published("llama-3.1-8b", LLAMA.model.parameters, "Q4_K_M")
    assert cost.words == f"perplexity {found.amount} % up on Meta-Llama-3-8B"
    assert cost.source == found.source
    assert losses.cost(QWEN.model, "fp8-tensor").words == "8 bits: no measurable loss"


def test_remedies_say_where_no_figure_of_the_model_is_known():
    cost = losses.cost(QWEN.model, "nf4")
    unknown = "no published figure of this model is known (LLaMA-7B: perplexity 1.5 % up)"
    assert cost.words == f"4 bits: {unknown}"
    assert "GPTQ-for-LLaMa" in cost.source


def test_points_are_the_same_for_every_model_and_in_the_order_of_one_page():
    order = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]
    points = [losses.points(form) for form in order]
    assert points == sorted(points)
    assert points[3] == pytest.approx(3 * 2.7908, abs=0.001)
    for form in losses.FORMATS:
        prices = {losses.cost(r.model, form).price for r in (LLAMA, QWEN)}
        assert len(prices) == 1
        assert losses.points(form) > 0


def test_a_cache_in_8_bits_has_a_figure_of_its_own():
    cost = losses.cache_in_q8(LLAMA.model)
    assert cost.words == "keys and values in 8 bits: perplexity 0.03 % up on Meta-Llama-3-8B"
    assert cost.source.endswith("/pull/7412")
    assert "no published figure" in losses.cache_in_q8(QWEN.model).words
