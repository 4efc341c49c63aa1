"""The folder of a Space: what stands in it, and that it is started as a Space would."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.faces.web.space import files

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_three_files(tmp_path):
    files.write(tmp_path / "space")
    assert {p.name for p in (tmp_path / "space").iterdir()} == set(files.FILES)
    compile((tmp_path / "space" / "app.py").read_text(), "app.py", "exec")
    told = (tmp_path / "space" / "requirements.txt").read_text()
    assert f"weighbridge[web]=={__version__}" in told


def test_the_front_matter(tmp_path):
    files.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    front = text.split("---\n")[1]
    said = dict(line.split(": ", 1) for line in front.splitlines() if ": " in line)
    assert said["sdk"] == "gradio" and said["app_file"] == "app.py"
    assert said["sdk_version"] == files.GRADIO
    assert len(said["short_description"]) <= 60  # the Hub refuses longer ones


def test_the_version_is_the_one_that_is_tested():
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    pinned = [re.fullmatch(r"gradio\[mcp\]==(.+)", one) for one in extras["test-space"]]
    assert [found[1] for found in pinned if found] == [files.GRADIO]


def test_it_is_written_again_and_nothing_else_is_overwritten(tmp_path):
    files.write(tmp_path)
    files.write(tmp_path)
    (tmp_path / "app.py").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        files.write(tmp_path)
    assert (tmp_path / "app.py").read_text() == "mine"


@pytest.mark.slow
def test_the_command_writes_them(tmp_path):
    place = tmp_path / "space"
    command = [sys.executable, "-m", "weighbridge", "web", "build", str(place), "--space"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(place)
    assert {p.name for p in place.iterdir()} == set(files.FILES)


@pytest.mark.slow
def test_a_missing_extra_is_one_line(tmp_path):
    """Gradio is not installed."""
    hidden = "import sys; sys.modules['gradio'] = None; from importlib import util\n"
    hidden += "util.find_spec = lambda name, package=None: None\n"
    code = hidden + "from weighbridge.faces.cli.menu import run; sys.exit(run(['web', '--gradio']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install 'weighbridge[web]'" in done.stderr


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        files.write(tmp_path / "x")
