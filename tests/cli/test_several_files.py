"""Several files of one command, and what stands at a path and is no file."""

import os

import pytest

from weighbridge.faces.cli import menu

SERVED = "vllm serve {model} --max-model-len 1024\n"


@pytest.fixture
def paths(tmp_path):
    names = {"fits.sh": "qwen3-0.6b", "small.sh": "llama-3.1-70b"}
    for name, model in names.items():
        (tmp_path / name).write_text(SERVED.format(model=model))
    (tmp_path / "broken.yaml").write_text("a: [")
    return {name: str(tmp_path / name) for name in (*names, "broken.yaml", "none.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "code", "shown"),
    [
        (("fits.sh", "fits.sh"), 0, "yes\nyes\n"),
        (("fits.sh", "small.sh"), 1, "yes\nno\n"),
        (("small.sh", "broken.yaml", "fits.sh"), 2, "no\nyes\n"),
        (("fits.sh", "none.yaml"), 2, "yes\n"),
    ],
)
def test_each_is_weighed_and_the_worst_exit_code_counts(paths, capsys, names, code, shown):
    given = [paths[name] for name in names]
    assert menu.run([*given, "--gpu", "4090", "--check", "-q"]) == code
    out, err = capsys.readouterr()
    assert out == shown
    assert err.count("error:") == len({"broken.yaml", "none.yaml"} & set(names))


def test_one_file_is_emitted_at_a_time(paths, capsys):
    assert menu.run([paths["fits.sh"], paths["fits.sh"], "--emit", "compose"]) == 2
    assert "--emit and --save are about one FILE" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "train", "infer"])
def test_a_file_that_is_not_there_is_no_model(capsys, command):
    assert menu.run([command, "nothere.yaml", "--gpu", "4090"]) == 2
    assert "nothere.yaml: no such file" in capsys.readouterr().err


def test_a_pipe_and_a_link_to_itself_are_said_to_be_that(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name, says in (("pipe", "is a pipe or a device"), ("loop.yaml", "symbolic links")):
        assert menu.run([str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert says in err
        assert err.count("\n") == 1
