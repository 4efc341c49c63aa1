"""Ranks: cards for a model and models for a card say what their own questions say."""

import csv
import json
import random

import pytest

import weighbridge
from weighbridge import catalogue
from weighbridge.accelerators.parts import parts
from weighbridge.cli.menu import run
from weighbridge.questions.fit.hardware import cards
from weighbridge.questions.fit.ranking import STEP, models, purpose
from weighbridge.questions.fit.request import asked

SOME = ["qwen3-0.6b", "llama-3.1-8b", "gemma-3-27b", "bert-base-uncased", "deepseek-v3"]


@pytest.fixture(scope="module")
def ranked():
    return models(SOME, weighbridge.prepare, asked({"gpu": "4090"}))


@pytest.fixture(scope="module")
def by_card():
    return weighbridge.prepare("llama-3.1-8b").gpus()


@pytest.mark.slow
def test_rows_are_what_the_questions_answer(ranked):
    assert {row["name"] for row in ranked.rows} == set(SOME)
    for row in ranked.rows:
        if row["peak_bytes"] is None:
            continue
        form = row["format"] if "-" in row["format"] or row["format"] == "nf4" else None
        alone = weighbridge.infer(row["name"], gpu="4090", quantization=form)
        assert row["fits"] == alone.verdict.fits
        assert row["margin_bytes"] == alone.verdict.margin_bytes
        assert row["peak_bytes"] == alone.verdict.per_device.expected


@pytest.mark.slow
def test_what_fits_comes_first_and_then_the_largest(ranked):
    keys = [(row["fits"] != "yes", -row["parameters"]) for row in ranked.rows]
    assert keys == sorted(keys)


@pytest.mark.slow
def test_the_best_format_is_the_first_that_fits(ranked):
    rows = {row["name"]: row for row in ranked.rows}
    assert rows["llama-3.1-8b"]["format"] == "bfloat16"
    assert rows["deepseek-v3"]["fits"] == "no"
    big = rows["gemma-3-27b"]
    assert big["fits"] == "yes"
    assert weighbridge.infer("gemma-3-27b", gpu="4090").verdict.fits != "yes"
    for better in ("bnb-int8", "nf4"):
        if better == big["format"]:
            break
        alone = weighbridge.infer("gemma-3-27b", gpu="4090", quantization=better)
        assert alone.verdict.fits != "yes"


@pytest.mark.slow
def test_the_context_of_a_row_fits_and_a_step_more_does_not(ranked):
    for row in ranked.fitting:
        if not row["context"]:
            continue
        form = row["format"] if "-" in row["format"] or row["format"] == "nf4" else None
        model = weighbridge.prepare(row["name"])
        ask = lambda n: model.infer(gpu="4090", quantization=form, context=n)  # noqa: B023, E731
        first = ask(row["context"])
        assert first.verdict.fits == "yes"
        if row["context"] != first.derived["longest_context"]:
            assert ask(row["context"] + STEP).verdict.fits != "yes"


def test_a_least_context_is_asked_for():
    found = models(
        ["gpt2", "llama-3.1-8b"], weighbridge.prepare, asked({"gpu": "4090"}), least=8192
    )
    rows = {row["name"]: row for row in found.rows}
    assert rows["llama-3.1-8b"]["context"] >= 8192
    assert rows["llama-3.1-8b"]["peak_bytes"] > weighbridge.infer("llama-3.1-8b").peak.expected


@pytest.mark.slow
def test_cards_that_are_not_asked_cannot_hold_the_weights(by_card):
    assert {row["id"] for row in by_card.rows} == {p.id for p in cards(parts().values())}
    unasked = [row for row in by_card.rows if row["peak_bytes"] is None]
    assert unasked
    model = weighbridge.prepare("llama-3.1-8b")
    for row in random.Random(3).sample(unasked, 4):
        assert model.infer(gpu=row["id"]).verdict.fits == "no"
    for row in random.Random(4).sample(by_card.fitting, 4):
        alone = model.infer(gpu=row["id"])
        assert alone.verdict.fits == "yes"
        assert alone.verdict.per_device.expected == row["peak_bytes"]


@pytest.mark.slow
def test_cards_come_in_order(by_card):
    sizes = [row["usable_bytes"] for row in by_card.fitting]
    assert sizes == sorted(sizes)


@pytest.mark.slow
def test_the_smallest_card_is_the_first_of_the_rank(by_card):
    model = weighbridge.prepare("llama-3.1-8b")
    assert model.fit(smallest="gpu").solved.value == by_card.fitting[0]["id"]


@pytest.mark.slow
@pytest.mark.parametrize("about", ["lora", "qlora", "train"])
def test_ranks_are_of_any_question(about):
    found = models(
        ["qwen3-0.6b", "llama-3.1-70b"], weighbridge.prepare, asked({"gpu": "4090", "for": about})
    )
    rows = {row["name"]: row for row in found.rows}
    assert rows["llama-3.1-70b"]["fits"] == "no"
    method = "full" if about == "train" else about
    alone = weighbridge.train("qwen3-0.6b", gpu="4090", method=method)
    assert rows["qwen3-0.6b"]["margin_bytes"] == alone.verdict.margin_bytes


@pytest.mark.slow
def test_the_command_line_ranks(capsys):
    assert run(["models", "qwen3-0.6b", "--gpu", "t4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "weighbridge.ranking/1"
    assert found["rows"][0]["fits"] == "yes"
    assert run(["fit", "llama-3.1-70b", "--all-gpus", "-q"]) == 0
    assert all(line in parts() for line in capsys.readouterr().out.split())
    assert run(["fit", "deepseek-v3", "--all-gpus"]) == 1
    assert "nothing fits" in capsys.readouterr().out


@pytest.mark.slow
def test_files(tmp_path, capsys):
    for end in ("csv", "json"):
        path = tmp_path / f"rank.{end}"
        assert run(["models", "gemma", "--gpu", "4090", "-o", str(path)]) == 0
    names = {e.name for e in catalogue.search("gemma")}
    with open(tmp_path / "rank.csv") as file:
        assert {row["name"] for row in csv.DictReader(file)} == names
    assert {r["name"] for r in json.loads((tmp_path / "rank.json").read_text())["rows"]} == names


def test_parquet_says_what_it_needs(tmp_path, capsys):
    path = tmp_path / "rank.parquet"
    code = run(["models", "qwen3-0.6b", "--gpu", "4090", "-o", str(path)])
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        assert code == 2
        assert "weighbridge[parquet]" in capsys.readouterr().err
        return
    assert code == 0
    assert parquet.read_table(path).column("name").to_pylist() == ["qwen3-0.6b"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("models", "--min-context", "8K"), "name the card"),
        (("models", "qwen3-0.6b", "--gpu", "4090", "-o", "rank.xlsx"), "end with one of .csv"),
        (("models", "qwen3-0.6b", "--gpu", "nothing"), "no accelerator"),
        (("models", "qwen3-0.6b", "--gpu", "4090", "--min-context", "long"), "number of tokens"),
        (("fit", "qwen3-0.6b", "--all-gpus", "--gpu", "4090"), "leave --gpu"),
        (("fit", "qwen3-0.6b", "gpt2", "--all-gpus"), "one MODEL"),
        (("fit", "qwen3-0.6b", "--gpu", "4090", "-o", "x.csv"), "--all-gpus"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, says):
    assert run(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("cls", "said"), [("LlamaForCausalLM", "text"), ("ViTForImageClassification", "images")]
)
def test_what_a_class_is_for(cls, said):
    assert purpose(cls) == said


def test_the_whole_catalogue_is_asked_about_without_a_model(capsys):
    assert run(["fit", "llama-3.1-8b", "--all-catalogue", "--gpu", "4090"]) == 2
    assert "name no MODEL" in capsys.readouterr().err
