"""The processes that answer strangers: without secrets, bounded, and started again."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.space.test_admission import REFUSED
from weighbridge.faces.web.space.answering import SpaceDesk
from weighbridge.faces.web.space.office import Limits, Office

pytest.importorskip("gradio")  # a process each: they run beside those of the page


@pytest.fixture
def trap():
    """A web server on this machine that nobody may ask."""
    asked = []
    listening = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                connection, address = listening.accept()
            except OSError:
                return
            asked.append(address)
            connection.close()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1], asked
    listening.close()


@pytest.fixture(scope="module")
def office():
    made = Office(Limits(clerks=1, seconds=60))
    yield made
    made.close()


def told(office, **request):
    token = request.pop("token", None)
    return office.ask({"run": {"task": "load", **request}, "token": token})


@pytest.mark.parametrize("model", REFUSED)
def test_the_office_refuses(office, model):
    found = told(office, model=model)
    assert found["error"]["code"] == 2
    assert "root:" not in json.dumps(found)


def test_no_address_of_this_machine_is_asked(office, trap):
    port, asked = trap
    for host in ("127.0.0.1", "localhost"):
        found = told(office, model=f"http://{host}:{port}/model.safetensors")
        assert found["error"]["code"] == 2
    assert asked == []


def test_a_folder_of_the_server_is_no_model(office, tmp_path, monkeypatch):
    """Where the server was started, a folder may have the name of a repository."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "config.json").write_text('{"model_type": "llama"}')
    monkeypatch.chdir(tmp_path)
    with Hub(root=tmp_path / "empty") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        own = Office(Limits(clerks=1))
        found = told(own, model="org/name")
        own.close()
    assert "error" in found
    assert hub.asked("/api/models/org/name")


def test_the_process_knows_no_secrets(tmp_path, monkeypatch):
    """Nothing is read as the server's owner: no token of its environment or of its login."""
    (tmp_path / "hub" / "org" / "name").mkdir(parents=True)
    (tmp_path / "hub" / "org" / "name" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_" + "o" * 34)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", "hf_" + "s" * 34)
    monkeypatch.setenv("MY_SECRET", "nobody knows")
    with Hub(root=tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        own = Office(Limits(clerks=1))
        told(own, model="org/name")
        process = own._clerks[0]._process
        environment = Path(f"/proc/{process.pid}/environ")
        seen = environment.read_bytes() if environment.exists() else b""
        own.close()
    assert {request.token for request in hub.requests} == {None}
    assert b"SECRET" not in seen and b"hf_s" not in seen


def test_a_token_is_used_once_and_kept_nowhere(tmp_path, monkeypatch):
    token = "hf_" + "t" * 34
    place = tmp_path / "hub" / "org" / "gated"
    place.mkdir(parents=True)
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
    (place / "config.json").write_text(json.dumps(config))
    with Hub(root=tmp_path / "hub", gated={"org/gated": {token}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        own = Office(Limits(clerks=1))
        before = told(own, model="org/gated")
        given = told(own, model="org/gated", token=token)
        after = told(own, model="org/gated")
        left = [path.read_bytes() for path in Path(own._folder.name).rglob("*") if path.is_file()]
        own.close()
    assert before["error"]["code"] == after["error"]["code"] == 3
    assert given["model"]["name"] == "org/gated"
    assert token not in json.dumps([before, given, after])
    assert not [data for data in left if token.encode() in data or b"hidden_size" in data]


def test_a_token_that_a_message_would_show_is_masked(tmp_path):
    desk = SpaceDesk(cache_dir=str(tmp_path))
    token = "secretive-word"
    request = {"task": "load", "model": f"no {token} here"}
    for face in ("run", "page"):
        found = desk.answer({face: {**request}, "token": token})
        assert "error" in found
        assert token not in json.dumps(found)


@pytest.mark.parametrize(
    "ask",
    [
        {"task": "load", "model": "7B"},
        {"task": "export", "form": "json", "of": {"task": "load", "model": "7B"}},
    ],
)
def test_an_ask_of_the_page_with_a_token_is_not_kept(office, ask):
    token = "hf_" + "p" * 34
    inner = {**ask, "of": {**ask["of"], "token": token}} if "of" in ask else {**ask, "token": token}
    kept = len(office._kept._answers)
    assert "error" not in office.asked(json.dumps(inner).encode())
    assert len(office._kept._answers) == kept
    assert "error" not in office.asked(json.dumps(ask).encode())
    assert len(office._kept._answers) == kept + 1


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[1]", b'{"a": ' * 9_000, b'{"task": "x"}\n{}']
)
def test_what_is_no_ask_is_told(office, body):
    assert office.asked(body)["error"]["code"] in (2, 3)


def test_a_mistake_is_told_in_the_words_of_the_page(office):
    ask = {"task": "load", "model": "7B", "workload": {"gpu": "no such card"}}
    found = office.asked(json.dumps(ask).encode())["error"]
    assert found["setting"] == "gpu" and "--gpu" not in found["message"]


# Deadlines and deaths.


def test_an_answer_that_takes_too_long_costs_its_process_only(tmp_path, monkeypatch):
    (tmp_path / "org" / "slow").mkdir(parents=True)
    (tmp_path / "org" / "slow" / "config.json").write_text("{}")
    with Hub(root=tmp_path, latency=5.0) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        own = Office(Limits(clerks=1, seconds=4))
        told(own, model="7B")
        found = told(own, model="org/slow")
        assert "no answer within 4 s" in found["error"]["message"]
        assert "devices" in told(own, model="7B")
        own.close()


def test_a_process_that_died_is_started_again(office):
    told(office, model="7B")
    process = office._clerks[0]._process
    process.kill()
    process.wait()
    assert told(office, model="8B")["model"]["name"] == "8B"


def test_a_server_that_is_busy_says_so():
    own = Office(Limits(clerks=1, patience=0.01))
    own._free.get()
    assert "too much to do" in told(own, model="7B")["error"]["message"]
    own.close()


def test_no_process_outlives_the_office():
    own = Office(Limits(clerks=1))
    told(own, model="7B")
    process = own._clerks[0]._process
    folder = own._folder.name
    own.close()
    assert process.returncode is not None
    assert not os.path.exists(folder)


def test_what_is_not_needed_is_not_imported():
    """Answers come from processes without gradio, and the command line imports none of this."""
    code = (
        "import sys; import weighbridge.faces.web.space.answering, weighbridge.faces.web.space.office;"
        "import weighbridge.faces.web.space.files; print({'gradio', 'mcp', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
