"""One question, asked through every face of `fit`: one answer."""

import json
import re

import pytest

from tests.cases import each
from weighbridge.answers.questions.prepared import Prepared
from weighbridge.base.words import words_in
from weighbridge.faces.agents.answering import Answers
from weighbridge.faces.charts.fits import fits as figure
from weighbridge.faces.cli.menu import run
from weighbridge.faces.render.markdown import MARKS
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.faces.web.space.answering import SpaceDesk

CODES = {"yes": 0, "no": 1, "unknown": 4}
SIGNS = {"yes": ("yes", "tight"), "no": ("no",), "unknown": ("unknown",)}
QUESTIONS = [
    ("llama-3.1-8b", {"gpu": "3060"}),  # at 8 bit
    ("llama-3.1-8b", {"gpu": "3060", "as_published": True}),
    ("llama-3.1-8b", {"gpu": "3060", "max": "context"}),
    ("llama-3.1-8b", {"gpu": "3060", "max": "users"}),
    ("llama-3.1-8b", {"gpu": "3060", "for": "load"}),
    ("llama-3.1-8b", {"gpu": "3060", "for": "lora"}),
    ("llama-3.1-8b", {"gpu": "3060", "for": "qlora"}),
    ("llama-3.1-8b", {"gpu": "3060", "for": "train"}),
    ("llama-3.1-8b", {"gpu": "3060", "engine": "vllm"}),
    ("llama-3.1-8b", {"gpu": "3060", "engine": "llama.cpp"}),
    ("llama-3.1-8b", {"gpu": "3060", "quantization": "nf4"}),
    ("llama-3.1-8b", {"gpu": "3060", "quantization": "bnb-int8", "context": 32768}),
    ("llama-3.1-8b", {"gpu": "4090"}),  # as published
    ("llama-3.1-8b", {"gpu": "h100"}),
    ("llama-3.1-8b", {"gpu": "h100", "batch_size": 64, "context": 8192}),
    ("llama-3.1-8b", {"gpu": "t4"}),
    ("llama-3.1-8b", {"gpu_memory": "6GiB"}),
    ("llama-3.1-8b", {"gpu_memory": "2GiB"}),  # no format
    ("llama-3.1-8b", {"gpu": "4090", "smallest": "count"}),
    ("llama-3.1-8b", {"smallest": "gpu"}),
    ("llama-3.1-70b", {"gpu": "3060"}),  # it depends on RAM
    ("llama-3.1-70b", {"gpu": "4090", "ram": "64GiB"}),  # slowly
    ("llama-3.1-70b", {"gpu": "4090", "ram": "8GiB"}),
    ("llama-3.1-70b", {"gpu": "4090:2"}),
    ("llama-3.1-70b", {"gpu": "a100-80gb"}),
    ("llama-3.1-70b", {"gpu": "4090", "smallest": "count"}),
    ("qwen3-0.6b", {"gpu": "3060"}),
    ("qwen3-0.6b", {"gpu": "h100", "max": "context"}),
    ("qwen3-32b", {"gpu": "4090"}),
    ("qwen3-32b", {"gpu": "4090", "context": 131072}),
    ("qwen3-30b-a3b", {"gpu": "3060", "ram": "32GiB"}),  # experts in RAM
    ("qwen3-30b-a3b", {"gpu": "m3 max 64gb"}),
    ("gpt-oss-20b", {"gpu": "3060"}),
    ("gpt-oss-20b", {"gpu": "h100"}),
    ("gpt-oss-120b", {"gpu": "4090"}),
    ("gemma-3-4b", {"gpu": "t4"}),
    ("mixtral-8x7b", {"gpu": "4090"}),
    ("gpt2", {"gpu": "3060"}),
    ("vit-base-patch16-224", {"gpu": "t4"}),
    ("bert-base-uncased", {"gpu": "t4"}),
    ("7B", {"gpu": "3060"}),
    ("sd-1.5", {"gpu": "3060"}),  # as it was asked
    ("flux.1-dev", {"gpu": "3060"}),  # with a change
    ("flux.2-dev", {"gpu": "3060", "ram": "32GiB"}),
    ("wan2.1-t2v-14b", {"gpu": "4090", "engine": "comfyui", "quantization": "Q8_0"}),  # in part
    ("sdxl", {"smallest": "gpu"}),
]


@pytest.fixture(autouse=True)
def once(monkeypatch):
    """A question that two faces put alike is computed once."""
    computed, fit = {}, Prepared.fit

    def remembered(self, **settings):
        said = {name.rstrip("_"): str(value) for name, value in settings.items() if value}
        said.pop("remedies", None)
        key = self.reference, repr(sorted(said.items()))
        if key not in computed:
            computed[key] = fit(self, **settings)
        return computed[key]

    monkeypatch.setattr(Prepared, "fit", remembered)
    return computed


def typed(model, settings, *more):
    words = ["fit", model]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return [*words, *more]


def plain(text):
    """Words without the marks of Markdown, line ends, and how a face is told of RAM."""
    words = re.sub(r"[\s\\*]+", " ", text).strip()
    return words.replace("(--ram SIZE says whether it is there)", "(say how much the machine has)")


def planned(told, answer):
    """Tell whether a face in JSON has the plan of the answer."""
    names = ("fits", "why", "engine", "format", "layout", "settings", "largest_context")
    shown, plan = json.loads(json.dumps([told, answer.plan.to_dict()]))  # a size is a list there
    return [shown.get(name) or None for name in names] == [plan[name] or None for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "settings"), each(3, QUESTIONS), ids=str)
def test_every_face_has_the_same_answer(model, settings, capsys, tmp_path, once):
    ask = {"task": "fit", "model": model, "workload": settings}
    page = AskDesk(offline=True).answer(json.dumps({**ask, "view": {"parts": True}}))
    (answer,) = once.values()
    shown = page["screen"]["sections"][0][0]
    shown = {"text": shown["verdict"], **shown} if answer.pictures else shown["lines"][-1]
    sentence = plain(shown["text"])
    assert planned(page["report"]["plan"], answer)
    assert shown["mark"] in SIGNS[answer.fits]
    code = CODES[answer.fits]
    if answer.solved is not None:
        code = 0 if answer.solved.value else 1

    def face(*more):
        assert run(typed(model, settings, *more)) == code
        return capsys.readouterr().out

    human = face()
    assert any(f"{MARKS[mark]} {sentence}" in plain(human) for mark in SIGNS[answer.fits])
    assert answer.solved or answer.pictures or f"Exit code {code}: " in human
    assert sentence in plain(face("--format", "markdown"))
    assert face("-q") == f"{answer.fits}\n"
    told = json.loads(face("--check", "--json"))
    assert planned(told["plan"], answer)
    assert told["answer"] is None or told["answer"]["fits"] == answer.fits

    picture = tmp_path / "answer.svg"
    face("--chart", str(picture))
    drawn = figure(answer).answer
    assert drawn.startswith(words_in("en", "charts")(answer.fits)) and drawn in picture.read_text()
    assert answer.plan.why not in ("whole", "divided") or answer.plan.rung.format in drawn

    space = SpaceDesk(cache_dir=str(tmp_path))
    assert planned(space.answer({"run": {**ask}})["plan"], answer)
    assert space.answer({"page": {**ask}})["screen"] == page["screen"]

    if "as_published" not in settings:  # which is no argument of the tool
        agent = Answers(offline=True).call("fit", {"model": model, **settings}).numbers
        assert agent["fits"] == answer.fits
        assert sentence in plain(agent["answer"])
        assert answer.plan.why == "asked" or planned(agent["plan"], answer)
    assert len(once) == 1  # every face asked the same
