"""The app as a process, a stand-in Hub behind it, and one browser for all tests."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.hub import Hub

CHROMIUM = Path("/usr/bin/chromium")
WRITER = "hf_" + "W" * 34  # may post, and may see the gated repository
READER = "hf_" + "R" * 34
OWNER = "hf_" + "O" * 34  # the server's own, which strangers must not borrow
HOSTILE = "<img src=x onerror=alert(1)>{{value}}${1+1}"
TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}


class Running:
    """A server that was started, and what it wrote."""

    def __init__(self, process, hub):
        self.process, self.hub, self.lines = process, hub, []
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self._address()

    def _read(self):
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def _address(self):
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"weighbridge at (\S+)", self.log)
            if found:
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"the app did not start: {self.log}")

    @property
    def log(self):
        return "".join(self.lines)


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    for name in ("tiny", "gated", "silent"):
        (root / "org" / name).mkdir(parents=True)
        (root / "org" / name / "config.json").write_text(json.dumps(TINY))
    users = {WRITER: {"name": "writer"}, READER: {"name": "reader", "may_write": False}}
    silent = {"org/silent"}
    with Hub(root=root, users=users, gated={"org/gated": {WRITER}}, silent=silent) as running:
        yield running


@pytest.fixture(scope="session")
def server(hub, tmp_path_factory):
    """`weighbridge web --gradio`, as a Space has it in its environment."""
    pytest.importorskip("gradio")
    pytest.importorskip("mcp")
    home = tmp_path_factory.mktemp("home")
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "HF_TOKEN": OWNER,
        "GRADIO_TEMP_DIR": str(home / "gradio"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "weighbridge", "web", "--gradio", "--no-open", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        running = Running(process, hub)
        running.home = home
        yield running
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.exists():
        pytest.skip("needs chromium (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()
