"""Ranks: cards for a model and models for a card say what their own questions say."""

import csv
import json
import random

import pytest

import weighbridge
from weighbridge.answers.questions.fit.hardware import cards
from weighbridge.answers.questions.fit.ranking import chosen, models, purpose
from weighbridge.answers.questions.fit.request import asked
from weighbridge.faces.agents.answering import _models
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators.parts import parts
from weighbridge.memory.report.fit import Ranking
from weighbridge.models import catalogue
from weighbridge.models.catalogue.popularity import family_of

STEP = 256  # tokens: engines round contexts up
SOME = ["qwen3-0.6b", "llama-3.1-8b", "gemma-3-27b", "bert-base-uncased", "deepseek-v3"]


@pytest.fixture(scope="module")
def ranked():
    return models(SOME, weighbridge.prepare, asked({"gpu": "4090"}))


@pytest.fixture(scope="module")
def by_card():
    return weighbridge.prepare("llama-3.1-8b").gpus()


def alone(row, **more):
    """Ask the question of a row by itself, at the one length at which rows are compared."""
    more = {"context": 4096, **more} if row["engine"] == "ollama" else more
    packed = row["format"] not in ("bfloat16", "float16", "float32")
    form = {"quantization": row["format"]} if packed else {}
    return weighbridge.infer(row["name"], gpu="4090", engine=row["engine"], **form, **more)


@pytest.mark.slow
def test_rows_are_what_the_questions_answer(ranked):
    assert {row["name"] for row in ranked.rows} == set(SOME)
    for row in ranked.rows:
        if row["peak_bytes"] is None:
            continue
        asked_alone = alone(row)
        assert row["fits"] == asked_alone.verdict.fits
        assert row["margin_bytes"] == asked_alone.verdict.margin_bytes
        assert row["peak_bytes"] == asked_alone.verdict.per_device.expected


@pytest.mark.slow
@pytest.mark.parametrize("shown", [0, 1, 2, 9])
def test_rows_that_a_screen_shows_are_those_of_the_whole_rank(ranked, shown):
    """Where a screen shows some, no more are asked than it takes to find those; contexts are those
    of the rows that it shows."""
    opened = []

    def prepared(name):
        opened.append(name)
        return weighbridge.prepare(name)

    found = models(SOME, prepared, asked({"gpu": "4090"}), shown=shown)
    first = [dict(row) for row in ranked.fitting]
    assert len(first) > 2
    assert [row["context"] for row in first[:2]] != [None, None]
    assert list(found.fitting[:shown]) == first[:shown]
    assert len(opened) == len(set(opened)) == len(found.rows)
    asked_all = set(opened) == set(SOME)
    assert asked_all == (shown in (0, 9))
    if asked_all:
        assert [row["name"] for row in found.fitting] == [row["name"] for row in first]
    assert found.among == len(SOME)


def test_what_is_not_counted_is_no_yes_on_any_screen():
    for shown in (None, 20):
        found = models(["wav2vec2-base"], weighbridge.prepare, asked({"gpu": "4090"}), shown=shown)
        assert [row["fits"] for row in found.rows] == ["unknown"]


def test_only_a_screen_of_rows_leaves_the_others_out(monkeypatch, capsys):
    asked_for = []

    def models_for(names, given, *, shown=None):
        asked_for.append(shown)
        return Ranking(about="infer", of="models", rows=(), accelerator="any")

    monkeypatch.setattr("weighbridge.answers.questions.fit.ranking.models_for", models_for)
    common = ["models", "qwen3-0.6b", "--gpu", "4090"]
    for more in ([], ["-q"], ["--json"], ["--format", "markdown"]):
        assert run([*common, *more]) == 0
    assert asked_for == [20, 0, None, None]
    assert brief_ranking()["count"] == 0
    assert asked_for[-1] == 20


def brief_ranking():
    _, numbers = _models({"gpu": "4090"})
    return numbers


def fitting(name, parameters, **more):
    common = {"family": family_of(name), "task": "text", "fits": "yes"}
    return {"name": name, "parameters": parameters, **common, **more}


def test_what_people_choose_comes_first():
    rows = [
        fitting("gpt2", 1),
        fitting("qwen3-8b", 8),
        fitting("qwen3-14b", 14),
        fitting("qwen3-32b", 32, fits="no"),
        fitting("gemma-4-e4b", 7),
        fitting("llama-3.1-8b", 8),
        fitting("bge-small-en-v1.5", 1, task="features"),
        fitting("gemma-4-31b", 31, fits="unknown"),
    ]
    assert [row["name"] for row in chosen(rows)] == [
        *("gemma-4-e4b", "qwen3-14b", "llama-3.1-8b", "gpt2"),  # the largest of each family
        "qwen3-8b",
        "bge-small-en-v1.5",
        *("gemma-4-31b", "qwen3-32b"),
    ]


def test_a_card_at_home_is_asked_about_its_usual_engine():
    home = models(["qwen3-8b"], weighbridge.prepare, asked({"gpu": "4090"})).rows[0]
    assert (home["engine"], home["format"]) == ("ollama", "Q8_0")
    assert home["quality"]["format"] == "Q8_0"
    assert home["released"] == "2025-04-27"
    server = models(["qwen3-0.6b"], weighbridge.prepare, asked({"gpu": "h100"})).rows[0]
    assert (server["engine"], server["format"]) == ("vllm", "bfloat16")
    request = asked({"gpu": "4090", "engine": "transformers"})
    named = models(["qwen3-0.6b"], weighbridge.prepare, request).rows[0]
    assert (named["engine"], named["format"]) == ("transformers", "bfloat16")


def test_packed_weights_are_run_as_published():
    row = models(["gpt-oss-20b"], weighbridge.prepare, asked({"gpu": "4090"})).rows[0]
    assert (row["engine"], row["format"], row["fits"]) == ("ollama", "MXFP4_MOE", "yes")


def test_what_is_partly_in_ram_does_not_fit():
    row = models(["qwen3-32b"], weighbridge.prepare, asked({"gpu": "3060"})).rows[0]
    assert (row["fits"], row["context"]) == ("no", None)


@pytest.mark.slow
def test_the_best_format_is_the_first_that_fits(ranked):
    rows = {row["name"]: row for row in ranked.rows}
    assert rows["llama-3.1-8b"]["format"] == "Q8_0"
    assert rows["deepseek-v3"]["fits"] == "no"
    assert rows["bert-base-uncased"]["engine"] == "transformers"  # of which Ollama has nothing
    big = rows["gemma-3-27b"]
    assert (big["fits"], big["format"]) == ("yes", "Q4_K_M")
    larger = weighbridge.infer("gemma-3-27b", gpu="4090", engine="ollama", quantization="Q8_0")
    assert larger.verdict.fits != "yes" or larger.derived["layers_on_card"]


@pytest.mark.slow
def test_the_context_of_a_row_fits_and_one_more_does_not(ranked):
    for row in ranked.fitting:
        if not row["context"]:
            continue
        first = alone(row, context=row["context"])
        assert first.verdict.fits == "yes"
        assert first.derived.get("layers_on_card") is None
        if row["context"] != first.derived["longest_context"]:
            more = alone(row, context=row["context"] + STEP)
            assert more.verdict.fits != "yes" or more.derived.get("layers_on_card")


def test_a_least_context_is_asked_for():
    found = models(
        ["gpt2", "llama-3.1-8b"], weighbridge.prepare, asked({"gpu": "4090"}), least=8192
    )
    rows = {row["name"]: row for row in found.rows}
    assert rows["llama-3.1-8b"]["context"] >= 8192
    assert rows["gpt2"]["fits"] != "yes"  # it was made for 1,024
    assert rows["llama-3.1-8b"]["peak_bytes"] > alone(rows["llama-3.1-8b"]).peak.expected


@pytest.mark.slow
def test_cards_that_are_not_asked_cannot_hold_the_weights(by_card):
    assert {row["id"] for row in by_card.rows} == {p.id for p in cards(parts().values())}
    model = weighbridge.prepare("llama-3.1-8b")
    strictly = model.gpus(as_published=True)
    unasked = [row for row in strictly.rows if row["peak_bytes"] is None]
    assert unasked
    for row in random.Random(3).sample(unasked, 4):
        assert model.infer(gpu=row["id"]).verdict.fits == "no"
    for row in random.Random(4).sample(by_card.fitting, 4):
        form = {} if row["format"] == "bfloat16" else {"quantization": row["format"]}
        by_itself = model.infer(gpu=row["id"], engine=row["engine"], **form)
        assert by_itself.verdict.fits == "yes"
        assert by_itself.verdict.per_device.expected == row["peak_bytes"]


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
    trained = weighbridge.train("qwen3-0.6b", gpu="4090", method=method)
    assert rows["qwen3-0.6b"]["margin_bytes"] == trained.verdict.margin_bytes


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
