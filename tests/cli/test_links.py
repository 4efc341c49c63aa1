"""Links of a repository: what is written stays in it, wherever they lead."""

import os

import click
import pytest

from weighbridge.faces.cli import menu
from weighbridge.faces.cli.files import led_out, writable

CONFIG = """\
base_model: qwen3-0.6b
adapter: lora
sequence_len: 4096
micro_batch_size: 64
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "run.yaml").write_text(CONFIG)
    folder = tmp_path / "repository"
    (folder / "configs").mkdir(parents=True)
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "link.yaml").symlink_to("run.yaml")
    (folder / "out.yaml").symlink_to("../outside/run.yaml")
    (folder / "new.py").symlink_to("../outside/new.py")
    (folder / "away").symlink_to("../outside")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("run.yaml", False),
        ("link.yaml", False),
        ("configs/new.yaml", False),
        ("../outside/run.yaml", False),  # which was named so
        ("/dev/stdout", False),
        ("out.yaml", True),
        ("new.py", True),
        ("away/run.yaml", True),
        ("away/new.yaml", True),
    ],
)
def test_a_link_that_leads_out_is_not_followed(repository, path, out):
    assert (led_out(path) is not None) == out
    if out:
        with pytest.raises(click.UsageError, match=r"leads out of its folder: name .*outside"):
            writable("--write", path)
    elif not path.startswith("/dev"):
        writable("--write", path)


def test_a_folder_that_is_a_link_itself_is_where_one_is(repository, tmp_path, monkeypatch):
    (tmp_path / "here").symlink_to(repository)
    monkeypatch.chdir(tmp_path / "here")
    assert led_out("run.yaml") is None
    assert led_out(os.path.join(tmp_path, "here", "run.yaml")) is None


@pytest.mark.slow
@pytest.mark.parametrize("typed", [["--fix", "--write"], ["--save", "new.py"]])
def test_what_is_behind_a_link_stays_as_it_is(repository, capsys, typed):
    assert menu.run(["out.yaml", "--gpu", "4060", "--offline", *typed]) == 2
    assert "leads out of its folder" in capsys.readouterr().err
    assert (repository.parent / "outside" / "run.yaml").read_text() == CONFIG
    assert not (repository.parent / "outside" / "new.py").exists()
