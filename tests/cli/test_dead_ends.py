"""Code of one's own is no model and no run file: every door names the one that takes it."""

import pytest

from weighbridge.faces.cli.menu import run

NET = "from torch import nn\n\nclass Net(nn.Module):\n    pass\n"


@pytest.mark.parametrize("command", ["load", "infer", "train", "fit --gpu 4060"])
def test_code_of_one_s_own_is_sent_to_trace(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    verb, *options = command.split()
    assert run([verb, "./net.py", *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "weighbridge trace " in said and "--input 8x3x224x224" in said
