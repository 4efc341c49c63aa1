"""What a stranger may ask of a server, and what comes of it: no path, no other host, no hardware."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.hub import Hub
from weighbridge.errors import UsageError
from weighbridge.web.space.admission import admit
from weighbridge.web.space.answering import Desk
from weighbridge.web.space.office import Limits, Office

REFUSED = [
    "/etc/passwd",
    "../x",
    "./x",
    "~/.ssh/id_rsa",
    "~root/x",
    "..",
    "a/../../etc/passwd",
    "org/name/../../x",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "FILE:///etc/passwd",
    "http://169.254.169.254/latest/meta-data.json",
    "http://localhost/x.json",
    "http://127.0.0.1:8000/model.safetensors",
    "http://[::1]/x.gguf",
    "https://example.org/model.safetensors",
    "https://huggingface.co.evil.example/org/name",
    "https://huggingface.co@evil.example/x.json",
    "https://hf-mirror.com/org/name",
    "hf-mirror.com/org/name",
    "ftp://x/y.json",
    "\\\\server\\share\\x",
    "C:\\x.json",
    "model.safetensors",
    "config.json",
]
ADMITTED = [
    "llama-3.1-8b",
    "llama3.1:8b",
    "7B",
    "org/name",
    "org/name@main",
    "org/name:Q4_K_M",
    "https://huggingface.co/org/name",
    "https://huggingface.co/org/name/blob/main/model.safetensors",
    "hf://org/name",
    "timm/resnet50.a1_in1k",
]


@pytest.mark.parametrize("model", REFUSED)
def test_refused(model):
    with pytest.raises(UsageError):
        admit({"task": "load", "model": model})


@pytest.mark.parametrize("model", ADMITTED)
def test_admitted(model):
    admit({"task": "load", "model": model})


@pytest.mark.parametrize("setting", ["draft_model", "mmproj"])
def test_models_beside_it_are_admitted_alike(setting):
    with pytest.raises(UsageError, match="reads no paths"):
        admit({"task": "infer", "model": "7B", "workload": {setting: "/etc/passwd"}})


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve /etc/passwd",
        "vllm serve ../x",
        "llama-server -m /etc/passwd.gguf",
        "vllm serve http://169.254.169.254/x.json",
    ],
)
def test_commands_name_models_too(command):
    with pytest.raises(UsageError):
        admit({"task": "infer", "workload": {"command": command}})


@pytest.mark.parametrize(
    "workload",
    [
        {"gpu": "local"},
        {"gpu": " LOCAL "},
        {"gpu": ["4090", "local"]},
        {"gpu": "local+4090"},
        {"gpu": "4090", "ram": "local"},
        {"gpu": "4090", "exact": True},
        {},
    ],
)
def test_nothing_of_the_servers_own(workload):
    with pytest.raises(UsageError):
        admit({"task": "fit", "model": "7B", "workload": workload})


# The same, asked of the process that answers, with a server that would tell.


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
    return office.ask({"task": "load", **request})


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
    desk = Desk(cache_dir=str(tmp_path))
    token = "secretive-word"
    found = desk.answer({"task": "load", "model": f"no {token} here", "token": token})
    assert "error" in found
    assert token not in json.dumps(found)


# Deadlines and deaths.


def test_an_answer_that_takes_too_long_costs_its_process_only(tmp_path, monkeypatch):
    (tmp_path / "org" / "slow").mkdir(parents=True)
    (tmp_path / "org" / "slow" / "config.json").write_text("{}")
    with Hub(root=tmp_path, latency=5.0) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        own = Office(Limits(clerks=1, seconds=4))
        own.ask({"task": "load", "model": "7B"})
        found = told(own, model="org/slow")
        assert "no answer within 4 s" in found["error"]["message"]
        assert "report" in told(own, model="7B", view={})
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
        "import sys; import weighbridge.web.space.answering, weighbridge.web.space.office;"
        "import weighbridge.web.space.files; print({'gradio', 'mcp', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
