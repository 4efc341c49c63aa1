"""What a stranger may ask of a server: no path, no other host, none of its own hardware."""

import pytest

from tests.cases import all_of
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.faces.web.space.answering import admit

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


@all_of("model", REFUSED)
def test_refused(model):
    with pytest.raises(UsageError):
        admit({"task": "load", "model": model})


@all_of("model", ADMITTED)
def test_admitted(model):
    admit({"task": "load", "model": model})


@pytest.mark.parametrize("setting", ["draft_model", "mmproj"])
def test_models_beside_it_are_admitted_alike(setting):
    with pytest.raises(UsageError, match="reads no paths"):
        admit({"task": "infer", "model": "7B", "workload": {setting: "/etc/passwd"}})


@pytest.mark.parametrize(
    "command",
    [
        "llama-server -m /etc/passwd.gguf",
        "vllm serve http://169.254.169.254/x.json",
    ],
)
def test_commands_name_models_too(command):
    with pytest.raises(UsageError):
        admit({"task": "infer", "workload": {"command": command}})


@all_of(
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


def test_a_path_in_a_command_is_a_name_of_the_hub_and_no_file_of_this_server(tmp_path):
    """Requests of strangers never ask whether a path exists: what it is called by is looked up."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    request = {"task": "infer", "workload": {"command": f"vllm serve {tmp_path}"}}
    admit(request)
    asked = Requests(offline=True, ours=False)
    with pytest.raises(WeighbridgeError) as caught:
        asked.report(request)
    assert str(tmp_path) not in str(caught.value)
    assert tmp_path.name in str(caught.value)
