"""`train --save`: a script is written, or one line says why it is not."""

import pytest

from weighbridge.faces.cli.menu import run

ASKED = ("train", "qwen3-0.6b", "--seq-len", "64", "-q")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_script_is_written_under_its_own_name(folder, capsys):
    assert run([*ASKED, "--save", "tune.py"]) == 0
    text = (folder / "tune.py").read_text()
    assert "    python tune.py\n" in text and "train.py" not in text
    compile(text, "tune.py", "exec")
    assert "tune.py is written; start it with: python tune.py" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--framework", "lightning"], 2, "lightning is told by files of its own"),
        (["--gpu-memory", "1GiB"], 1, "train.py is not written: what was asked does not fit"),
        (["--batch-size", "1,2"], 2, "--save writes one script, and these are 2 questions"),
    ],
)
def test_what_is_not_written_is_said(folder, capsys, more, code, said):
    assert run([*ASKED, *more, "--save", "train.py"]) == code
    assert said in capsys.readouterr().err
    assert not (folder / "train.py").exists()


def test_a_folder_that_is_not_there_is_told_before_the_work(folder, capsys):
    assert run([*ASKED, "--save", "none/train.py"]) == 2
    assert "there is no folder none" in capsys.readouterr().err
