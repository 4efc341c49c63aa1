"""The folder of a Space, started as a Space starts it: a new environment, requirements.txt, app.py.

It downloads gradio, so it is slow, and runs with `make test-slow`. weighbridge itself is a wheel that
is built here: it is the one requirement that no index has in this version.
"""

import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.space.conftest import Running

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]
gradio_client = pytest.importorskip("gradio_client")


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, **more)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("space")
    run(sys.executable, "-m", "weighbridge", "web", "build", str(made / "app"), "--space")
    wheels = str(made / "wheels")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, str(PROJECT))
    run(sys.executable, "-m", "venv", str(made / "venv"))
    pip = str(made / "venv" / "bin" / "pip")
    run(pip, "install", "-q", "--find-links", wheels, "-r", str(made / "app" / "requirements.txt"))
    return made


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_starts_and_answers(folder, hub):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        "SPACE_ID": "org/space",
        "SYSTEM": "spaces",
        "HF_ENDPOINT": hub.endpoint,
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": "7861",
    }
    process = subprocess.Popen(
        [str(folder / "venv" / "bin" / "python"), "app.py"],
        cwd=folder / "app",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        server = Running(process, hub)
        client = gradio_client.Client("http://127.0.0.1:7861/", verbose=False)
        found = client.predict({"model": "org/tiny"}, api_name="/load")
        assert "error" not in found, found
        assert found["model"]["name"] == "org/tiny"
        refused = client.predict({"model": "app.py"}, api_name="/load")
        assert refused["error"]["code"] == 2
        assert "7861" in server.url
        with urlopen("http://127.0.0.1:7861/", timeout=60) as page:
            assert b'content="space"' in page.read()
        client.close()
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
    assert {path.name for path in (folder / "app").iterdir()} == {
        *("app.py", "requirements.txt", "README.md")
    }
