"""The parts of a question of `fit`: what goes to each of the five, and what an answer says of itself."""

from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.answers.questions.fit import answers, request, search
from weighbridge.answers.questions.fit.request import FitRequest, takers
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import exactly

CARD = {"gpu": "4090"}


@all_of(
    ("given", "about", "most", "smallest"),
    [
        ({}, "infer", None, None),
        ({"for": "qlora"}, "qlora", None, None),
        ({"max": "context"}, "infer", "context", None),
        ({"max": "batch"}, "infer", "batch", None),
        ({"max": "seq-len"}, "lora", "seq-len", None),  # the first that has one
        ({"max": "lora-r"}, "lora", "lora-r", None),
        ({"max": "lora-r", "for_": "qlora"}, "qlora", "lora-r", None),
    ],
)
def test_the_question_that_a_request_is_about(given, about, most, smallest):
    asked = request.asked({**CARD, **given, "context": None, "exact": False})
    assert (asked.about, asked.most, asked.smallest) == (about, most, smallest)
    assert (asked.settings, asked.pinned) == (CARD, {"gpu"})
    assert asked.solves == (most is not None)
    assert asked.inference is None


@all_of(
    ("given", "says"),
    [
        ({"max": "context", "smallest": "gpu"}, "two questions"),
        ({"max": "width"}, "--max is one of context"),
        ({"gpu_memori": 1}, "did you mean gpu_memory"),
        ({"colour": 1}, "see `weighbridge fit --help`"),
        ({"exact": True}, "fit has no --exact"),
        ({"method": "lora"}, "asks about every method"),
        ({"smallest": "gpu"}, "leave --gpu out"),
        ({"lora_r": 0}, "--lora-r is at least 1"),
    ],
)
def test_what_is_no_request_is_said(given, says):
    with pytest.raises(UsageError, match=says):
        request.asked({**CARD, **given})


def test_every_card_is_asked_without_one():
    assert request.asked({}, named=False).settings == {}
    for given in (CARD, {"gpu_memory": "24GiB"}):
        with pytest.raises(UsageError, match="--all-gpus"):
            request.asked(given, named=False)


EVERY = {"load", "infer", "lora", "qlora", "train"}


@all_of(
    ("setting", "engine", "names"),
    [
        ("gpu", "vllm", EVERY),
        ("context", "vllm", {"infer"}),
        ("seq_len", "vllm", {"lora", "qlora", "train"}),
        ("lora_r", "vllm", {"lora", "qlora"}),  # of adapters
        ("quantization", "vllm", {"load", "infer", "qlora"}),  # others have plain weights
        ("engine_version", "vllm", {"infer"}),
        ("engine_version", "transformers", EVERY),
        ("tensor_parallel_size", "vllm", {"infer", "lora", "qlora", "train"}),
        ("tensor_parallel_size", "transformers", {"lora", "qlora", "train"}),  # it has none
    ],
)
def test_the_questions_that_take_a_setting(setting, engine, names):
    assert takers(setting, FitRequest(settings={setting: 1}), engine) == names


def test_settings_of_the_choice_go_to_its_question_alone():
    asked = FitRequest(settings=CARD, about="infer", extra={"tensor_parallel_size": 2})
    assert request.workload("infer", asked, "vllm").tensor_parallel_size == 2
    assert request.workload("lora", asked, "vllm").tensor_parallel_size is None
    assert request.workload("qlora", asked, "vllm").method == "qlora"
    assert not hasattr(request.workload("load", asked, "vllm"), "method")


# Answers


def model(config=None, library="transformers", rough=False):
    part = SimpleNamespace(config=config or {}, library=library)
    return SimpleNamespace(parts=(part,), rough=rough)


@all_of(
    ("about", "reads"),
    [
        (model({"vocab_size": 9}), True),
        (model({"text_config": {"vocab_size": 9}}), True),
        (model({"hidden_size": 9, "vision_config": {"hidden_size": 9}}), False),
        (model(), True),  # of which nobody knows
        (model({"hidden_size": 9}, rough=True), True),
        (model({"hidden_size": 9}, library="gguf"), True),
    ],
)
def test_models_that_read_text(about, reads):
    assert answers.reads_text(about) == reads


@pytest.mark.parametrize(
    ("library", "engine", "name", "reason"),
    [
        ("gguf", None, "lora", answers.FILES),
        ("gguf", "transformers", "train", answers.FILES),
        ("transformers", "llama.cpp", "qlora", "trains nothing"),
        ("gguf", "llama.cpp", "qlora", "trains nothing"),
        ("transformers", None, "lora", ""),
        ("gguf", None, "infer", ""),
        ("transformers", "llama.cpp", "load", ""),
    ],
)
def test_what_trains_nothing_is_not_asked_to(monkeypatch, library, engine, name, reason):
    report = SimpleNamespace(task=name, verdict=None, derived={}, remedies=(), setting=lambda n: 7)
    monkeypatch.setattr(answers, "inference", lambda asker, asked: "vllm")
    monkeypatch.setattr(answers, "answered", lambda *more, **options: report)
    monkeypatch.setattr(answers, "_elsewhere", lambda asker, asked, workload, question: question)
    asker = SimpleNamespace(model=lambda: model({"vocab_size": 9}, library))
    question = answers._told(asker, FitRequest(settings=CARD, inference=engine), name).question
    assert (question.report is None) == bool(reason)
    assert reason in question.reason


def test_an_answer_names_the_device_of_its_first_verdict():
    verdict = SimpleNamespace(
        accelerator="A", accelerator_id="a", count=2, visible=exactly(9), usable_bytes=7
    )
    questions = [SimpleNamespace(verdict=None), SimpleNamespace(verdict=verdict)]
    found = answers.accelerator(questions)
    assert (found.name, found.id, found.count, found.total, found.free) == ("A", "a", 2, 9, 7)


@all_of(
    ("task", "fits", "helped", "tokens"),
    [
        ("infer", "yes", True, 100),
        ("infer", "no", True, 50),  # with the cheapest change
        ("infer", "no", False, 100),
        ("train", "no", True, None),
        ("train", "yes", True, 100),
    ],
)
def test_the_longest_context_is_that_of_what_fits(task, fits, helped, tokens):
    def report(longest, remedies=()):
        return SimpleNamespace(
            task=task,
            verdict=SimpleNamespace(fits=fits),
            remedies=remedies,
            derived={"largest_context": longest},
            said={},
        )

    changed = []
    workload = SimpleNamespace(but=lambda **change: changed.append(change))
    asker = SimpleNamespace(briefly=lambda asked, limit: report(50))
    remedies = (SimpleNamespace(change={"a": 1}), SimpleNamespace(change={"b": 1}))
    assert answers._longest(asker, workload, report(100, remedies if helped else ())) == tokens
    assert changed == ([{"a": 1}] if tokens == 50 else [])
    assert answers._longest(asker, workload, report(0)) is None


@all_of(
    ("largest", "asked", "sized", "tokens"),
    [(9, 9, 8, 8), (9, 9, 9, 9), (9, 10, 8, 9), (0, 0, 8, None), (None, None, 8, None)],
)
def test_the_longest_context_is_no_more_than_the_engine_sizes(largest, asked, sized, tokens):
    report = SimpleNamespace(
        derived={"largest_context": largest},
        said={"context": asked},
        setting={"context": sized}.get,
    )
    assert answers.longest_context(report) == tokens


# Searches


def test_a_search_of_which_nothing_fits_ends_at_none():
    """A guess of none is believed where one does not fit, and asked no further."""
    asked = []

    def margin(n):
        asked.append(n)
        return -1

    assert search.largest(margin, search.SearchBounds(most=100, guess=0)) == 0
    assert asked == [1]


@pytest.mark.parametrize(("about", "trains"), [("infer", False), ("load", False), ("lora", True)])
def test_a_bare_size_is_not_trained(monkeypatch, about, trains):
    monkeypatch.setattr(search, "largest", lambda margin, bounds: 0)
    found = search._size(FitRequest(settings={}, about=about), lambda name: None)
    assert (found.note == "a bare size has no layers to train: --for load or infer") == trains
    assert found.question == about
