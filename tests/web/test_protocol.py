"""The protocol: what `weighbridge run` prints, and what the page needs beside it."""

import json

import pytest

from tests.ask import requested as ask
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.words import words_in
from weighbridge.faces.web.protocol import AskDesk

ASKS = (
    {"task": "load", "model": "llama-3.1-8b", "workload": {"gpu": "3060"}},
    {"task": "infer", "model": "qwen3-0.6b", "workload": {"engine": "vllm", "gpu": "4090"}},
    {"task": "train", "model": "qwen3-0.6b", "workload": {"method": "lora", "gpu": "3060"}},
    {"task": "fit", "model": "gpt2", "workload": {"gpu": "t4"}},
    {"task": "infer", "model": "qwen3-0.6b", "remedies": False},
    {"task": "load", "model": {"config": {"model_type": "llama"}}},
    {"task": "load", "model": "no-such-model"},
    {"task": "infer", "model": "gpt2", "workload": {"batch": 3}},
    {"task": "dance", "model": "gpt2"},
    {"task": "load"},
)


@pytest.fixture(scope="module")
def desk():
    return AskDesk(offline=True)


@pytest.mark.slow
@pytest.mark.parametrize("request_", ASKS, ids=str)
def test_a_report_is_what_run_prints(desk, request_):
    line = json.dumps(request_)
    printed = json.dumps(Requests(offline=True).answer(line))
    found = desk.answer(line)
    if "error" in found:
        error, told = found["error"], json.loads(printed)["error"]
        assert (error["code"], error["ground"]) == (told["code"], told["ground"])
        assert request_["task"] == "dance" or error["message"].split(":")[0] in told["message"]
    else:
        assert json.dumps(found["report"]) == printed
        assert found["screen"]["sections"]


def test_what_is_unknown_is_one_line(desk):
    for told in ({"task": "dance"}, {"task": []}, {}, {"task": "infer", "view": 1}):
        error = ask(desk, **told)["error"]
        assert error["code"] == 2
        assert "\n" not in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_screen_of_the_page_names_no_option_of_the_command_line(desk, lang):
    for told in (
        {"task": "load", "model": "llama-3.1-8b"},
        {"task": "load", "model": "gpt2", "workload": {"ram": "64GiB"}},
        {"task": "fit", "model": "gpt2", "workload": {"gpu": "t4"}},
        {"task": "train", "model": "gpt2", "workload": {"gpu": "3060"}},
        {"task": "load", "model": "llama-3.1-405b", "workload": {"gpu_memory": "1GiB"}},
        {"task": "gpus", "workload": {"pattern": "4090"}},
        {"task": "models", "workload": {"pattern": "gpt2", "gpu": "t4"}},
    ):
        screen = ask(desk, **told, view={"lang": lang})["screen"]
        said = [screen["title"], *screen["footer"]]
        for section in screen["sections"]:
            said += [
                block.get(name) or ""
                for block in section
                for name in ("heading", "figures", "reason")
            ]
            said += [b["text"] for b in section if b["block"] == "note"]
            pasted = [b["text"] for b in section if b["block"] == "paste"]
            assert not [text for text in pasted if text.startswith("weighbridge")]
            said += [c["text"] for b in section if b["block"] == "lines" for c in b["lines"]]
        for text in said:
            assert "--" not in text
            assert "weighbridge " not in text


def test_a_filter_of_a_table_that_is_left_empty_is_none(desk):
    filters = {"pattern": "4090", "sort": "", "vendor": "", "min_memory": None}
    told = ask(desk, task="gpus", workload=filters)
    assert told["report"] == ask(desk, task="gpus", workload={"pattern": "4090"})["report"]


@pytest.mark.slow
def test_fit_without_remedies_has_the_same_verdicts_and_looks_for_none(desk):
    told = {"task": "fit", "model": "gpt2", "workload": {"gpu_memory": "600MiB", "max": "context"}}
    found, bare = (ask(desk, **told, remedies=helped) for helped in (True, False))
    verdicts = [[q["verdict"] for q in one["report"]["questions"]] for one in (found, bare)]
    assert verdicts[0] == verdicts[1]
    assert any(q["remedies"] for q in found["report"]["questions"])
    assert not any(q["remedies"] for q in bare["report"]["questions"])
    assert "no change found" not in json.dumps(bare["screen"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "workload"),
    [
        ("load", "qwen3-8b", {"gpu": "3060"}),
        ("train", "qwen3-8b", {"gpu": "4090", "method": "qlora", "framework": "trainer"}),
        ("infer", "qwen3-30b-a3b", {"engine": "llama.cpp", "gpu": "M3 Max 64GB", "context": "1M"}),
        ("infer", "llama-3.1-70b", {"engine": "vllm", "gpu": "4090"}),
    ],
)
def test_an_answer_that_looked_for_nothing_says_nothing_of_what_helps(desk, task, model, workload):
    told = ask(desk, task=task, model=model, workload=workload, remedies=False)
    assert told["report"]["verdict"]["fits"] == "no"
    assert "No change was found" not in json.dumps(told["screen"])


@pytest.mark.slow
def test_where_a_search_found_nothing_that_is_said(desk):
    workload = {"gpu_memory": "1GiB", "engine": "vllm"}
    told = ask(desk, task="infer", model="llama-3.1-405b", workload=workload)
    assert told["report"]["remedies"] == []
    assert "No change was found" in json.dumps(told["screen"])


@pytest.mark.slow
def test_every_change_of_fit_has_its_price(desk):
    told = ask(desk, task="fit", model="gpt2", workload={"gpu_memory": "600MiB"})
    counts = [len(q["remedies"]) for q in told["report"]["questions"]]
    assert [len(one) for one in told["prices"]] == counts
    assert any(price for one in told["prices"] for price in one)


@pytest.mark.slow
@pytest.mark.parametrize(("lang", "end"), [("en", "the model's maximum"), ("zh", "模型的上限")])
def test_a_search_that_ends_at_the_model_says_so(desk, lang, end):
    workload = {"gpu": "4090", "max": "context"}
    told = ask(desk, task="fit", model="qwen3-0.6b", workload=workload, view={"lang": lang})
    solved = told["report"]["solved"]
    first, second = told["screen"]["sections"][0][0]["lines"][:2]
    assert f"{solved['value']:,}" in first["text"]
    assert first["text"].endswith(end)
    assert second["text"].startswith({"en": "Yes, as published", "zh": "可以"}[lang])
    pastes = [b for s in told["screen"]["sections"] for b in s if b["block"] == "paste"]
    flags = f"--context {solved['value']}"
    assert pastes[0]["heading"] == words_in(lang)("paste.change", flags=flags)


# Messages of a run that was out of memory

MESSAGE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total"
    " capacity of 23.64 GiB of which 1.12 GiB is free. Including non-PyTorch memory, this process"
    " has 22.51 GiB memory in use. Of the allocated memory 21.60 GiB is allocated by PyTorch, and"
    " 463.21 MiB is reserved by PyTorch but unallocated."
)


def test_a_message_is_explained_as_the_command_line_does(desk):
    from weighbridge.files.oom import explained

    found = ask(desk, task="oom", log=MESSAGE, workload={"method": "lora"}, view={"lang": "zh"})
    oom = explained(MESSAGE, None, {"method": "lora"})
    assert found["report"] == json.loads(json.dumps(oom.to_dict()))
    assert found["screen"]["lang"] == "zh"
    assert [block["block"] for block in found["screen"]["sections"][0]][:2] == ["headline", "bar"]
    assert "command" not in found


def test_a_message_is_held_against_the_model(desk):
    found = ask(desk, task="oom", log=MESSAGE, model="llama-3.1-8b", workload={"gpu": "4090"})
    assert found["report"]["estimate"]["model"]["name"] == "llama-3.1-8b"
    assert "By the model" in json.dumps(found["screen"])


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"log": 3}, "log is the text of a message"),
        ({}, "log is the text of a message"),
        ({"log": MESSAGE, "workload": "4090"}, "workload is an object of settings"),
        ({"log": MESSAGE, "model": "no-such-model"}, "no-such-model"),
        ({"log": "nothing went wrong"}, "out of memory"),
        ({"log": MESSAGE, "view": {"lang": "de"}}, "view.lang"),
    ],
)
def test_a_message_that_cannot_be_explained_says_why(desk, told, why):
    assert why in ask(desk, task="oom", **told)["error"]["message"]
