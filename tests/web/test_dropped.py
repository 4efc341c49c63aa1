"""A dropped file is answered from its first bytes as the whole file would be."""

import json
from base64 import b64encode

import pytest

from tests.ask import requested
from tests.cases import all_of
from tests.formats.build_gguf import Writer
from tests.sparse import as_tensors, write_safetensors
from weighbridge.answers.questions.requests import Requests
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A GGUF file whose header is long, a safetensors file and a config."""
    place = tmp_path_factory.mktemp("dropped")
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    w.key("tokenizer.ggml.tokens", w.array("str", ["a token"] * 90_000))
    for layer in range(2):
        w.tensor(f"blk.{layer}.attn_q.weight", [64, 64], "Q8_0")
    (place / "model.gguf").write_bytes(w.file() + bytes(1 << 20))
    entry = catalogue.find("qwen3-0.6b")
    write_safetensors(place / "model.safetensors", as_tensors(blueprint(Config(entry.config))))
    (place / "config.json").write_text(json.dumps(dict(entry.config)))
    return place


def file_of(path, nbytes=None):
    told = {"name": path.name, "size": path.stat().st_size}
    if nbytes is not None:
        with path.open("rb") as file:
            told["head"] = b64encode(file.read(nbytes)).decode()
    return told


def ask(desk, file, task="load", **workload):
    return requested(desk, {"file": file}, task=task, workload=workload)


def answered(desk, path, **workload):
    """The answer, after as many rounds as it takes, and the bytes that each sent."""
    sent, file = [], file_of(path)
    while True:
        found = ask(desk, file, **workload)
        if "need" not in found:
            return found, sent
        sent.append(found["need"]["bytes"])
        assert len(sent) < 6
        assert sent == sorted(set(sent))
        file = file_of(path, sent[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors", "config.json"])
def test_the_answer_is_that_of_the_whole_file(folder, tmp_path, name, monkeypatch):
    path = folder / name
    (tmp_path / name).symlink_to(path)  # alone: what lies beside a file is read with it
    monkeypatch.chdir(tmp_path)
    found, sent = answered(AskDesk(offline=True), path, gpu="t4")
    whole = Requests().answer(
        json.dumps({"task": "load", "model": name, "workload": {"gpu": "t4"}})
    )
    assert json.dumps(found["report"]) == json.dumps(whole)
    assert found["command"] == f"weighbridge load ./{name} --gpu t4"
    if name != "config.json":
        assert sent[-1] < path.stat().st_size


@pytest.mark.slow
def test_a_file_is_named_again_by_its_key(folder):
    desk = AskDesk(offline=True)
    found, _ = answered(desk, folder / "model.gguf")
    named = {**file_of(folder / "model.gguf"), "key": found["file"]}
    assert ask(desk, named, gpu="t4")["report"]["model"] == found["report"]["model"]
    assert "need" in ask(AskDesk(), named)  # another desk has never seen it


@pytest.mark.slow
def test_few_files_are_kept(folder):
    desk = AskDesk(offline=True)
    first, _ = answered(desk, folder / "config.json")
    raw = (folder / "config.json").read_bytes()
    for number in range(4):
        told = {"name": f"{number}.json", "size": len(raw), "head": b64encode(raw).decode()}
        assert "report" in ask(desk, told)
    assert "need" in ask(desk, {**file_of(folder / "config.json"), "key": first["file"]})


HOSTILE = (
    None,
    [],
    {"name": 1, "size": 1},
    {"name": "../../etc/passwd", "size": 1, "head": ""},
    {"name": "..\\..\\x.gguf", "size": 1, "head": ""},
    {"name": "/x.gguf", "size": 1, "head": ""},
    {"name": "x.exe", "size": 1, "head": ""},
    {"name": "x" * 300 + ".gguf", "size": 1, "head": ""},
    {"name": "x\x1b[2J.gguf", "size": 1, "head": ""},
    {"name": "x.gguf", "size": -1, "head": ""},
    {"name": "x.gguf", "size": True, "head": ""},
    {"name": "x.gguf", "size": 1 << 80, "head": ""},
    {"name": "x.gguf", "size": 4, "head": "AAAAAAAA"},
    {"name": "x.gguf", "size": 4, "head": "not base64"},
    {"name": "x.gguf", "size": 4, "head": 7},
    {"name": "x.gguf", "size": 4, "head": "AAAAAA=="},
    {"name": "x.safetensors", "size": 8, "head": "//////////8="},
    {"name": "x.json", "size": 2, "head": "e30="},
    {"name": "x.json", "size": 2, "head": "W10="},
    {"name": "x.jsonl", "size": 2, "head": "e30="},
    {"name": "x.gguf", "size": 4, "path": "/etc/passwd"},
)


@all_of("file", HOSTILE, ids=repr)
def test_what_is_no_file_of_ours_is_one_line(file):
    found = ask(AskDesk(offline=True), file)
    assert found["error"]["code"] == 2
    assert found["error"]["message"].isprintable()
    assert "defect" not in found["error"]["message"]


def test_a_header_that_claims_too_much_is_not_asked_for():
    file = {"name": "x.safetensors", "size": 1 << 50}
    need = ask(AskDesk(), file)["need"]["bytes"]
    head = b64encode((1 << 40).to_bytes(8, "little") + bytes(need - 8)).decode()
    found = ask(AskDesk(), {**file, "head": head})
    assert "our limit" in found["error"]["message"]


def test_text_is_no_weights():
    text = b"hello, this is a text file\n" * 40
    found = dropped("x.safetensors", text)["error"]["message"]
    assert found.startswith("x.safetensors: is not a safetensors file")


def test_an_error_names_the_file_that_was_dropped():
    config = b'{"model_type": "llama", "hidden_size": -5, "num_hidden_layers": 2}'
    assert dropped("neg.json", config)["error"]["message"].startswith("neg.json: hidden_size is -5")


def dropped(name, data):
    head = b64encode(data).decode()
    file = {"name": name, "size": len(data), "head": head}
    return AskDesk(offline=True).answer(json.dumps({"task": "load", "model": {"file": file}}))


def test_a_run_file_is_requests():
    lines = [{"task": "load", "model": "gpt2"}, {"task": "fit", "model": "gpt2"}]
    told = run_file("\n".join(map(json.dumps, lines)) + "\n\n")
    assert told == {"asks": lines, "notes": []}


AXOLOTL = """\
base_model: llama-3.1-8b
adapter: lora
lora_r: 16
sequence_len: 4096
micro_batch_size: 2
strange: 1
"""


@pytest.mark.parametrize("name", ["run.yaml", "pasted.text"])
def test_a_file_that_starts_a_run_is_its_request(name):
    told = run_file(AXOLOTL, name)
    (ask,) = told["asks"]
    assert (ask["task"], ask["model"]) == ("train", "llama-3.1-8b")
    assert ask["workload"]["framework"] == "axolotl"
    assert ask["workload"]["seq_len"] == 4096
    assert told["notes"] == ["6: strange: it is no key that we know"]
    assert "report" in AskDesk(offline=True).answer(json.dumps(ask))


def test_a_notebook_is_the_request_of_its_script():
    code = 'FastLanguageModel.from_pretrained("llama-3.1-8b")\nSFTTrainer(args=SFTConfig())'
    cells = [{"cell_type": "code", "source": [code]}]
    told = run_file(json.dumps({"cells": cells}), "tune.ipynb")
    (ask,) = told["asks"]
    assert (ask["model"], ask["workload"]["framework"]) == ("llama-3.1-8b", "unsloth")


def test_each_server_of_a_file_is_a_request():
    text = "services:\n" + "".join(
        f"  {n}: {{image: vllm/vllm-openai, command: [--model, {n}]}}\n"
        for n in ("gpt2", "qwen3-8b")
    )
    told = run_file(text, "compose.yaml")
    assert [ask["model"] for ask in told["asks"]] == ["gpt2", "qwen3-8b"]
    assert told["asks"][0]["workload"] == {"command": "docker run vllm/vllm-openai --model gpt2"}


def test_a_file_that_starts_nothing_is_one_line():
    assert "nothing in it tells" in run_file("a: 1", "run.yaml")["error"]["message"]


@all_of("text", ["", "[]", "{}", "\n".join(['{"task": "load"}'] * 13), '{"task'])
def test_a_run_file_that_is_none_is_one_line(text):
    assert run_file(text)["error"]["code"] == 2


def run_file(text, name="asked.jsonl"):
    raw = text.encode()
    file = {"name": name, "size": len(raw), "head": b64encode(raw).decode()}
    return AskDesk().answer(json.dumps({"task": "asks", "file": file}))
