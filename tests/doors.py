"""Questions, and the doors that each may be asked by: every door has the same verdict and figures.

A question is (task, model, settings). A door takes one and returns an `Outcome`, or None where it
has no words for it; `DOORS` has all of them by name. What every door ends in, a model that is read
and an estimator that is given settings, is asked once of the very same settings (`asked_once`): a
door that hands on others is answered anew.
"""

import contextlib
import io
import itertools
import json
import random
import shlex
from functools import cache

import pytest

import weighbridge
from weighbridge.answers.questions.estimator import Estimator
from weighbridge.answers.questions.prepared import Prepared
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.faces.agents.answering import Answers
from weighbridge.faces.cli.menu import run
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.workload import TABLES

MEANT = {"✓": "yes", "✗": "no", "?": "unknown"}  # signs of screens
CODES = {"yes": 0, "no": 1, "unknown": 4, None: 0}
MODELS = ("qwen3-0.6b", "llama-3.1-8b", "qwen3-32b", "gemma-3-12b", "gpt-oss-20b", "mixtral-8x7b")
CARDS = ("3060", "4090", "4090:2", "h100", "t4", "m3-max-36gb")
ENGINES = {
    "transformers": ({}, {"quantization": "nf4"}, {"batch_size": 8, "context": 8192}),
    "vllm": ({}, {"context": 32768, "kv_cache_dtype": "fp8"}, {"max_num_seqs": 64}),
    "sglang": ({}, {"context": 16384}, {"batch_size": 32}),
    "llama.cpp": ({"quantization": "Q4_K_M"}, {"quantization": "Q8_0", "context": 32768}),
    "ollama": ({}, {"context": 32768}),
}
TRAINED = ("qwen3-0.6b", "llama-3.1-8b", "qwen2.5-7b", "gemma-3-4b")
METHODS = (
    {"method": "lora"},
    {"method": "qlora", "seq_len": 1024},
    {"method": "full", "optimizer": "adamw_8bit", "checkpointing": "full"},
    {"method": "lora", "lora_r": 64, "batch_size": 4},
    {"method": "full", "shard": "zero3", "gpu": "h100:8"},
    {"method": "dpo", "lora_r": 16, "gpu": "h100"},
    {"method": "grpo", "lora_r": 16, "gpu": "h100:2"},
)
PIPELINES = ("sd-1.5", "sdxl", "flux.1-dev", "qwen-image", "wan2.1-t2v-1.3b", "flux.2-dev")
DRAWN = ({}, {"size": 768}, {"offload": "model"}, {"batch_size": 2}, {"dtype": "float16"})
LEARNT = ({}, {"lora_r": 16, "checkpointing": "full"}, {"size": 512})
FITTED = ("qwen3-0.6b", "llama-3.1-8b", "qwen3-32b", "qwen3-30b-a3b", "sdxl", "flux.1-dev")
FITS = ({}, {"ram": "32GiB"}, {"as_published": True}, {"for": "lora"})
FITS_OF_PIPELINES = ({}, {"ram": "32GiB"}, {"quantization": "nf4"}, {"offload": "model"})
MANY = 320


class Question(NamedTuple):
    task: str
    model: str
    settings: dict


class Outcome(NamedTuple):
    """An answer: its verdict, bytes of the fullest device, whether it serves as asked, exit code."""

    fits: str | None
    peak: tuple | None
    serves: bool | None
    code: int


def questions(count=MANY):
    """Some hundred questions of every task, the same at each call."""
    infer = [
        Question("infer", model, {"engine": engine, "gpu": card, **more})
        for engine, kinds in ENGINES.items()
        for more in kinds
        for model, card in itertools.product(MODELS, CARDS)
    ]
    train = [
        Question("train", model, {"gpu": card, **method})
        for method in METHODS
        for model, card in itertools.product(TRAINED, ("3060", "4090", "h100"))
    ]
    picture = [
        Question("image", model, {"gpu": card, **more})
        for more in DRAWN
        for model, card in itertools.product(PIPELINES, ("3060", "4090", "h100"))
    ]
    learn = [
        Question("train_image", model, {"gpu": card, **more})
        for more in LEARNT
        for model, card in itertools.product(PIPELINES[:4], ("4090", "a100-80gb"))
    ]
    load = [
        Question("load", model, {"gpu": card, **more})
        for more in ({}, {"quantization": "nf4"}, {"dtype": "float16"})
        for model, card in itertools.product(MODELS, ("3060", "h100"))
    ]
    fit = [
        Question("fit", model, {"gpu": card, **more})
        for more in FITS
        for model, card in itertools.product(FITTED, ("3060", "4090"))
    ]
    makes = [
        Question("fit", model, {"gpu": card, **more})
        for more in FITS_OF_PIPELINES
        for model, card in itertools.product(PIPELINES, ("3060", "4090", "h100"))
    ]
    chosen = random.Random(55)
    shares = (
        (infer, 0.42),
        (train, 0.2),
        (picture, 0.14),
        (learn, 0.06),
        (load, 0.06),
        (fit, 0.12),
        (makes, 0.08),
    )
    return [
        question
        for asked, share in shares
        for question in chosen.sample(asked, min(len(asked), round(share * count)))
    ]


KEPT = {  # what is asked once, as it is
    (Prepared, "_resolved"): Prepared._resolved,
    (Estimator, "__call__"): Estimator.__call__,
}


@contextlib.contextmanager
def asked_once():
    """Keep each model that is read, and each answer of an estimator about one of them."""
    read, answer = KEPT.values()
    models, answers = {}, {}

    def resolved(self, *, base_model):
        key = repr(self.given), base_model
        if key not in models:
            models[key] = read(self, base_model=base_model)
        return models[key]

    def answered(self, workload, limits=None):
        if self.beside or self.question.launched is not None:
            return answer(self, workload, limits)
        key = self.question.task, id(self.model), workload, limits and tuple(limits), limits is None
        if key not in answers:
            answers[key] = self.model, answer(self, workload, limits)  # the model keeps its id
        return answers[key][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prepared, "_resolved", resolved)
        patch.setattr(Estimator, "__call__", answered)
        yield


# Doors


def outcome(told, code=None):
    """The outcome of a report or of a fit in JSON, or of an error."""
    if "error" in told:
        return Outcome("error", None, None, told["error"]["code"])
    if told["schema"].startswith("weighbridge.fit"):
        plan = told["plan"]
        figures = tuple(
            json.dumps(plan.get(name)) for name in ("engine", "format", "layout", "settings")
        )
        figures += tuple(str(told["verdict"][name]) for name in ("fits", "margin_bytes"))
        fits = plan["fits"]
        return Outcome(fits, figures, None, CODES[fits] if code is None else code)
    fits = (told["verdict"] or {}).get("fits")
    driver = told["devices"][0]["peak"]["driver"]
    peak = (driver["low"], driver["expected"], driver["high"], told["devices"][0]["taken"])
    serves = told["derived"].get("serves_as_asked")
    return Outcome(fits, peak, serves, CODES[fits] if code is None else code)


def or_error(ask):
    try:
        return ask()
    except WeighbridgeError as error:
        return {"error": {"code": error.code, "message": str(error)}}


@cache
def prepared(model):
    return weighbridge.prepare(model, offline=True)


def by_api(question):
    """weighbridge.prepare(model).infer(gpu=..., ...)"""
    task, model, settings = question
    settings = {"for_" if name == "for" else name: value for name, value in settings.items()}
    ask = getattr(prepared(model), task)
    return outcome(or_error(lambda: ask(**settings, **bare(question)).to_dict()))


def bare(question):
    """What leaves out changes: a plan is one of them, so a `fit` has none without."""
    return {} if question.task == "fit" else {"remedies": False}


def words(question, command=""):
    """The command line of a question."""
    task, model, settings = question
    pictures = {"image": "image", "train_image": "train-image"}
    typed = [command or pictures.get(task, task), model, "--offline"]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        typed += [flag] if value is True else [flag, str(value)]
    return typed


def run_quietly(typed):
    """(exit code, what was printed) of a command line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        code = run(typed)
    return code, printed.getvalue()


def typed_as(*more, command=""):
    def by_command_line(question):
        check = [] if question.task == "fit" else ["--check"]
        code, text = run_quietly([*words(question, command), *check, "--json", *more])
        if not text.strip():
            return Outcome("error", None, None, code)
        return outcome(json.loads(text), code)

    return by_command_line


def by_bare_name(question):
    """weighbridge NAME --gpu CARD"""
    if question.task != "fit":
        return None
    code, text = run_quietly([*words(question)[1:], "--json"])
    return outcome(json.loads(text), code) if text.strip() else Outcome("error", None, None, code)


def quietly(question):
    """weighbridge fit MODEL -q"""
    if question.task != "fit":
        return None
    code, text = run_quietly([*words(question), "-q"])
    return text.strip() if CODES.get(text.strip()) == code else "error"


def by_screen(question):
    """The first sign of the screen."""
    if question.task != "fit":
        return None
    _, text = run_quietly([*words(question), "--format", "human"])
    signs = (MEANT[sign] for sign in text if sign in MEANT)
    return next(signs, "error")


def in_words(question):
    """can I run MODEL on a CARD?"""
    if question.task != "fit" or question.settings.keys() != {"gpu"}:
        return None
    asked = f"can I run {question.model} on a {question.settings['gpu']}?"
    code, text = run_quietly([asked, "--offline", "--json"])
    return outcome(json.loads(text), code) if text.strip() else Outcome("error", None, None, code)


@cache
def desk():
    return Requests(offline=True)


@cache
def page():
    return AskDesk(offline=True)


def request(question, **more):
    task, model, settings = question
    return {"task": task, "model": model, "workload": settings, **bare(question), **more}


def by_request(question):
    """A line of `weighbridge run`."""
    return outcome(desk().answer(json.dumps(request(question))))


def by_task_of_people(question):
    """The same with the word that language models have: `infer` and `train` of a pipeline."""
    task = {"image": "infer", "train_image": "train"}.get(question.task)
    if task is None:
        return None
    return outcome(desk().answer(json.dumps(request(question) | {"task": task})))


def sent_back(question):
    """The workload of the report as a request: every default is typed."""
    first = first_answer(question)
    if first is None:
        return None
    again = request(question) | {"workload": first["workload"]}
    return outcome(desk().answer(json.dumps(again)))


DEFAULTS = ("framework", "engine", "precision", "optimizer", "batch_size", "seq_len")


def first_answer(question):
    """The report of a question in JSON, without remedies; None of an error or of a `fit`."""
    if question.task == "fit":
        return None
    told = desk().answer(json.dumps(request(question)))
    return None if "error" in told else told


def with_a_default_typed(question):
    """One of the defaults that decide, typed: another one for each question. A dtype is none of them:
    it says that nothing is packed, and of a pipeline that every component has it."""
    first = first_answer(question)
    if first is None:
        return None
    names = [
        name
        for name in DEFAULTS
        if name in TABLES[question.task]
        and name not in question.settings
        and first["workload"].get(name) is not None
    ]
    if not names:
        return None
    name = names[sum(map(ord, repr(question))) % len(names)]
    typed = {**question.settings, name: first["workload"][name]}
    return by_request(question._replace(settings=typed))


def by_page(question):
    """What the page asks by its protocol, in Chinese."""
    answer = page().answer(json.dumps(request(question, view={"lang": "zh"}, remedies=True)))
    return outcome(answer if "error" in answer else answer["report"])


def by_agent(question):
    """A tool for agents, whose answers are shorter: the verdict alone."""
    if question.task not in ("infer", "train", "fit") or {"as_published", "for"} & {
        *question.settings
    }:
        return None
    answer = Answers(offline=True).call(
        question.task, {"model": question.model, **question.settings}
    )
    return "error" if answer.numbers is None else answer.numbers["fits"]


def launched(question):
    """(line, settings beside it) of the line to run that the report of what fits prints; None where
    it is a script, or where a file is to be made first."""
    first = first_answer(question) if question.task == "infer" else None
    line = None if first is None else first["derived"].get("launch")
    if not line or first["workload"]["engine"] in ("transformers", "ollama"):
        return None
    if first["verdict"]["fits"] != "yes" or first["derived"].get("launch_note"):
        return None
    names = ("gpu", "ram", "batch_size")
    beside = {name: question.settings[name] for name in names if name in question.settings}
    return line, beside


def by_its_own_command(question):
    """The line to run, with the same cards."""
    if (asked := launched(question)) is None:
        return None
    line, beside = asked
    told = or_error(lambda: weighbridge.infer(command=line, offline=True, **beside).to_dict())
    return outcome(told).fits


def by_file(question):
    """The line to run as a script, and as a service of compose."""
    if (asked := launched(question)) is None:
        return None
    line, beside = asked
    if "batch_size" in beside:
        return None
    words = json.dumps(shlex.split(line))
    compose = f"services:\n  llm:\n    image: x\n    entrypoint: []\n    command: {words}\n"
    script = f"#!/bin/sh\nexec {line}\n"
    answers = {weighed(script, "serve.sh", beside), weighed(compose, "compose.yaml", beside)}
    return answers.pop() if len(answers) == 1 else str(answers)


def weighed(text, name, beside):
    try:
        return weighbridge.weigh(text, name=name, offline=True, **beside).fits
    except WeighbridgeError as error:
        return f"error: {error}"


DOORS = {
    "api": by_api,
    "command line": typed_as(),
    "in Chinese": typed_as("--lang", "zh"),
    "bare name": by_bare_name,
    "in words": in_words,
    "quiet": quietly,
    "screen": by_screen,
    "request": by_request,
    "people's task": by_task_of_people,
    "sent back": sent_back,
    "a default typed": with_a_default_typed,
    "page": by_page,
    "agent": by_agent,
    "own command": by_its_own_command,
    "file": by_file,
}
FITS_ALONE = ("quiet", "screen", "agent", "own command", "file")


def differences(question, doors=DOORS):
    """(door, what it says) of each that does not answer as the first does."""
    first = by_api(question)
    for name, door in doors.items():
        told = door(question)
        if told is None:
            continue
        if told != (first.fits if name in FITS_ALONE else first):
            yield name, told, first
