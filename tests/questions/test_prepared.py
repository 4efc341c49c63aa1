"""A model that is prepared once gives the answers that are given afresh, in whatever order."""

import contextlib
import copy
import gc
import json
import pickle
import random
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from weakref import ref

import pytest

import weighbridge
from tests.cases import all_of
from tests.tiny import LLAMA as CONFIG
from weighbridge import Infer, Load, Train, prepare
from weighbridge.answers.estimate import train as training
from weighbridge.answers.questions import jobs, requests
from weighbridge.answers.questions.jobs import Worker, answers
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import (
    HubError,
    NotFoundError,
    NotServedError,
    UnsupportedError,
    UsageError,
)
from weighbridge.memory.components.activations import Heap

QUESTIONS = [
    ("load", {}),
    ("load", {"quantization": "nf4", "gpu": "4090"}),
    ("load", {"base_model": True}),
    ("infer", {"context": 512}),
    ("infer", {"engine": "vllm", "gpu": "h100", "context": 1024}),
    ("infer", {"engine": "vllm", "gpu": "h100", "context": 600, "batch_size": 8}),
    ("infer", {"engine": "sglang", "gpu": "4090", "context": 600}),
    ("infer", {"engine": "llama.cpp", "context": 777, "gpu": "4090", "quantization": "Q4_K_M"}),
    ("infer", {"engine": "vllm", "engine_version": "0.9.2"}),
    ("train", {"seq_len": 128}),
    ("train", {"seq_len": 256, "method": "lora", "gpu": "4090"}),
    ("train", {"seq_len": 256, "shard": "fsdp2", "gpu": "4090:4"}),
]


def told(model, task, settings):
    return json.dumps(getattr(model, task)(**settings).to_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3-0.6b", "gemma-2-2b", "gpt2"])
def test_what_was_asked_before_changes_nothing(name):
    questions = [(t, s) for t, s in QUESTIONS if name != "gpt2" or "Q4_K_M" not in s.values()]
    afresh = [told(prepare(name), task, settings) for task, settings in questions]
    order = list(range(len(questions))) * 2
    random.Random(name).shuffle(order)
    model = prepare(name)
    for i in order:
        assert told(model, *questions[i]) == afresh[i], questions[i]


@pytest.mark.slow
def test_three_functions_and_what_is_prepared_give_one_answer():
    model = prepare(CONFIG)
    for task, settings in QUESTIONS:
        direct = getattr(weighbridge, task)(CONFIG, **settings).to_dict()
        assert json.dumps(direct) == told(model, task, settings)


def test_a_record_and_names_are_one_question():
    model = prepare("gpt2")
    assert model.load(Load(dtype="float16")) == model.load(dtype="float16")
    assert model.infer(Infer(engine="vllm")) == model.infer(engine="vllm")
    assert model.train(Train(method="lora")) == model.train(method="LoRA")
    with pytest.raises(UsageError, match="not both"):
        model.load(Load(), dtype="float16")


def test_what_is_prepared_cannot_be_changed():
    model = prepare("gpt2")
    with pytest.raises(AttributeError):
        model.given = "llama-3.1-8b"


def test_a_draft_model_that_is_prepared_is_the_one_of_that_name():
    model, draft = prepare("qwen3-8b"), prepare("qwen3-0.6b")
    asked = {"engine": "vllm", "draft_model": "qwen3-0.6b", "speculative_method": "draft"}
    assert model.infer(draft=draft, **asked) == model.infer(**asked)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        ({"speculative_method": "mtp"}, "layers for multi-token prediction"),
        (
            {"speculative_method": "eagle3", "draft_model": "org/never-heard-of"},
            "the draft model org/never-heard-of, which could not be read",
        ),
    ],
)
def test_a_server_is_answered_without_what_cannot_be_read_of_its_draft(engine, asked, missing):
    """The rest is counted, and nobody can say; a draft of transformers' own is refused."""
    model = prepare("qwen3-8b", offline=True)
    alone = model.infer(engine=engine, gpu="h100", remedies=False)
    found = model.infer(engine=engine, gpu="h100", remedies=False, **asked)
    assert found.verdict.fits == "unknown"
    assert missing in found.verdict.reason
    assert found.peak.expected == pytest.approx(alone.peak.expected, rel=0.02)
    if "draft_model" in asked:
        with pytest.raises(HubError):
            model.infer(engine="transformers", draft_model=asked["draft_model"])


def test_a_command_is_about_the_model_that_was_prepared():
    model = prepare("qwen3-8b")
    line = "vllm serve qwen3-8b --max-model-len 2048"
    assert model.infer(command=line, gpu="h100").workload["context"] == 2048
    with pytest.raises(UsageError, match="serves 'gpt2'"):
        model.infer(command="vllm serve gpt2")


def test_what_cannot_be_prepared_says_so_at_once():
    with pytest.raises(NotFoundError):
        prepare("./no-such-folder")
    with pytest.raises(UnsupportedError):
        prepare({"model_type": "no-such-type"})


def line(model, task="load", **workload):
    return json.dumps({"task": task, "model": model, "workload": workload}).encode()


def test_requests_of_one_model_share_it(monkeypatch):
    opened = []

    def counted(model, options):
        opened.append(model)
        return before(model, options)

    before = requests.opened
    monkeypatch.setattr(requests, "opened", counted)
    one = Requests()
    for name in ("gpt2", "qwen3-0.6b", "gpt2", "qwen3-0.6b", "gpt2"):
        one.answer(line(name))
        one.answer(line(name, "infer", context=128))
    assert opened == ["gpt2", "qwen3-0.6b"]


def test_what_requests_keep_is_bounded(monkeypatch):
    monkeypatch.setattr(requests, "MANY", 3)
    one = Requests()
    for width in range(1, 7):
        one.answer(line({"config": {**CONFIG, "intermediate_size": 64 * width}}))
    one.answer(line({"config": {**CONFIG, "intermediate_size": 64 * 4}}))  # used again
    kept = [found.given["intermediate_size"] // 64 for found in one._kept.values()]
    assert kept == [5, 6, 4]
    monkeypatch.setattr(requests, "MOST_TENSORS", one._tensors() // 3)
    one.answer(line({"config": CONFIG}))
    assert len(one._kept) == 2


LINES = [
    line("gpt2"),
    line("qwen3-0.6b", "infer", engine="vllm", context=256),
    b"not a request",
    line("gpt2", "train", seq_len=64),
    line("no-such-model-anywhere", "load"),
    line("gpt2", "infer", context=99),
] * 3


@pytest.mark.slow
def test_several_processes_answer_in_order():
    one = Requests(offline=True)
    assert list(answers(LINES, 2, offline=True)) == [json.dumps(one.answer(x)) for x in LINES]


@pytest.mark.slow
def test_a_process_that_dies_loses_no_request(monkeypatch):
    worker, asked = Worker(None, True), line("gpt2")
    expected = json.dumps(Requests(offline=True).answer(asked))
    try:
        process = next(iter(_started(worker)))
        process.kill()
        process.join()
        died: Future[str] = Future()
        died.set_exception(BrokenProcessPool())
        assert jobs._Asked(asked, worker, died).result() == expected
        assert _answer(worker, asked) == expected
        monkeypatch.setattr(Worker, "alone", lambda self, line: died.result())
        message = json.loads(jobs._Asked(asked, worker, died).result())["error"]["message"]
        assert "memory" in message
    finally:
        worker.stop()


def _started(worker):
    worker.ask(line("gpt2")).result()
    return worker._pool._processes.values()


def _answer(worker, asked):
    """The dead process may be noticed only after a request was handed to it."""
    for _ in range(3):
        try:
            return worker.ask(asked).result()
        except BrokenProcessPool:
            continue
    return None


def test_models_go_to_the_process_that_has_them():
    class Idle:
        def __init__(self):
            self.waiting = 0

        def ask(self, line):
            self.waiting += 1

    workers = [Idle(), Idle()]
    office = jobs._Office(workers)
    turns = [office.ask(line(name)).worker for name in ("gpt2", "llama", "gpt2", "llama")]
    assert turns == [workers[0], workers[1]] * 2
    busy = [office.ask(line("gpt2")).worker for _ in range(2 * jobs.PATIENCE)]
    assert busy[0] is workers[0]
    assert workers[1] in busy, "one model alone keeps the other process idle"


@pytest.mark.slow
def test_threads_that_ask_one_model_get_the_answers_of_one():
    model, alone = prepare("qwen3-0.6b"), prepare("qwen3-0.6b")
    asked = [("infer", {"context": n, "gpu": "4090"}) for n in (64, 128, 256)] * 4
    asked += [("load", {"gpu": gpu}) for gpu in ("4090", "h100")] * 2
    expected = [told(alone, *question) for question in asked]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda question: told(model, *question), asked)) == expected


@all_of(
    ("task", "record", "says"),
    [
        ("train", Train(method="lor"), "--method is not .lor.; did you mean lora"),
        ("train", Train(batch_size=0), "--batch-size is at least 1"),
        ("train", Train(loss="ligr"), "--loss is not .ligr.; did you mean liger"),
        ("infer", Infer(batch_size=-5), "--batch-size is at least"),
        ("infer", Infer(enforce_eager="maybe"), "--enforce-eager"),
        ("load", Load(device_map="cpu"), "--device-map"),
        ("load", Infer(), "as a Load, not as Infer"),
        ("train", Infer(), "as a Train, not as Infer"),
        ("infer", Infer, "not as Infer"),
        ("infer", "vllm", "not as str"),
    ],
)
def test_a_record_is_read_as_settings_are(task, record, says):
    with pytest.raises(UsageError, match=says):
        getattr(prepare("gpt2"), task)(record)


def test_a_record_may_hold_text():
    model = prepare("gpt2")
    assert model.infer(Infer(context="512")) == model.infer(context=512)
    assert model.train(Train(lora_targets="c_attn", method="lora")) == model.train(
        lora_targets=("c_attn",), method="lora"
    )


def test_a_draft_is_the_one_that_is_named():
    model, draft = prepare("qwen3-8b"), prepare("qwen3-0.6b")
    asked = {"engine": "vllm", "speculative_method": "draft"}
    named = model.infer(draft_model="qwen3-0.6b", **asked)
    assert model.infer(draft=draft, **asked).to_dict() == named.to_dict()
    with pytest.raises(UsageError, match="name 'gpt2'"):
        model.infer(draft=draft, draft_model="gpt2", **asked)
    with pytest.raises(UsageError, match="not str"):
        model.infer(draft="qwen3-0.6b", **asked)


@pytest.mark.slow
def test_a_draft_that_is_not_counted_is_said():
    asked = {"engine": "ik_llama.cpp", "quantization": "Q4_K_M", "gpu": "h100"}
    model = prepare("qwen3-8b")
    assert model.infer(**asked).verdict.fits == "yes"
    report = model.infer(draft=prepare("qwen3-0.6b"), **asked)
    assert report.verdict.fits == "unknown"
    assert any("draft model" in what for what in report.derived["not_counted"])


def test_a_command_may_name_the_repository_or_a_config():
    line = "vllm serve Qwen/Qwen3-8B --max-model-len 2048"
    assert prepare("qwen3-8b").infer(command=line).workload["context"] == 2048
    assert prepare(CONFIG).infer(command="vllm serve config").workload["context"] == 2048
    with pytest.raises(UsageError, match="text of a launch command"):
        prepare("qwen3-8b").infer(command=3)


def test_what_was_interrupted_is_begun_anew(monkeypatch):
    """A signal may stop a walk at any moment: the next question begins it again."""
    expected = told(prepare("gpt2"), "infer", {"context": 100})
    real = Heap.take
    for moment in (1, 10, 40, 60, 80):
        model, left = prepare("gpt2"), [moment]

        def take(self, *args, left=left):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return real(self, *args)

        monkeypatch.setattr(Heap, "take", take)
        with pytest.raises(KeyboardInterrupt):
            model.infer(context=100)
        monkeypatch.setattr(Heap, "take", real)
        assert told(model, "infer", {"context": 100}) == expected


def test_a_copy_has_no_memory_of_what_was_asked():
    model = prepare("qwen3-0.6b")
    expected = told(model, "infer", {"context": 100})
    for one in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert told(one, "infer", {"context": 100}) == expected


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is here")
def test_all_names_need_no_torch_and_the_one_that_does_says_so():
    names: dict[str, object] = {}
    exec("from weighbridge import *", names)
    assert names["prepare"] is prepare
    with pytest.raises(ImportError, match="FakeGPU needs torch"):
        weighbridge.FakeGPU  # noqa: B018


def test_a_token_is_never_shown():
    assert "hf_SECRET" not in repr(prepare("gpt2", token="hf_SECRET"))


@pytest.mark.slow
def test_processes_end_with_the_one_that_asks(tmp_path):
    """A parent that is killed stops nobody."""
    program = tmp_path / "parent.py"
    program.write_text(
        "import sys, time\n"
        "from weighbridge.answers.questions.jobs import Worker\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker(None, True)\n"
        "    worker.ask(b'{}').result()\n"
        "    print(*worker._pool._processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):  # a minute
        if not Path(f"/proc/{child}").exists() or _dead(child):
            return
        time.sleep(0.1)
    raise AssertionError("the worker lives on")


def _dead(child):
    """Whether it waits only for somebody to ask how it ended."""
    return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_config_that_is_changed_later_is_not_seen():
    config = {**CONFIG, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    model = prepare(config)
    expected = told(model, "load", {})
    config["hidden_size"] = 128
    config["rope_scaling"].clear()
    assert told(model, "load", {}) == expected
    assert told(model, "infer", {}) == told(prepare(model.given), "infer", {})


def test_a_refusal_is_refused_again():
    """What was begun before it was refused is no answer to the next one who asks."""
    broken = {
        "model_type": "mixtral",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "num_local_experts": 4,
        "num_experts_per_tok": 0,
    }
    one = Requests()
    for more in ({}, {"gpu": "h100"}):
        answers = [one.answer(line({"config": broken}, "infer", **more)) for _ in range(3)]
        assert "error" in answers[0]
        assert answers[1:] == answers[:1] * 2


@pytest.mark.slow
def test_models_that_are_let_go_are_freed(monkeypatch):
    """What is kept of a model leads back to it, and the command line hardly collects."""
    monkeypatch.setattr(requests, "MANY", 2)
    monkeypatch.setattr(requests, "COLLECT_AFTER", 3)
    one, seen = Requests(), []
    gc.freeze()  # what earlier tests keep is not looked through
    gc.disable()
    try:
        for width in range(64, 64 * 12, 64):
            for engine in ("vllm", "transformers", "sglang"):
                config = {"config": {**CONFIG, "intermediate_size": width}}
                one.answer(line(config, "infer", engine=engine, gpu="h100"))
            seen.append(ref(next(reversed(one._kept.values())).model()))
        assert sum(model() is not None for model in seen) <= 2 + 3
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_training_run_that_nothing_serves_is_refused_as_it_is(monkeypatch):
    """Only questions of serving are told which other engine answers them."""
    refusal = NotServedError("no class here", "ask --engine vllm")

    def refused(*arguments, **more):
        raise refusal

    monkeypatch.setattr(training, "train", refused)
    with pytest.raises(NotServedError) as error:
        weighbridge.train("qwen3-0.6b", gpu="4090")
    assert error.value is refusal or error.value.__cause__ is refusal


def test_what_is_imported_while_a_source_is_waited_for_is_there(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "weighbridge.faces.api.opened", lambda model, options: asked.append(options.then)
    )
    for ask in (weighbridge.load, weighbridge.infer, weighbridge.train, weighbridge.fit):
        with contextlib.suppress(AttributeError):  # nothing was opened
            ask("somebody/model", gpu="4090")
    assert len(asked) == 4
    assert [name for name in asked if find_spec(name) is None] == []
