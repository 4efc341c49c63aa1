"""Dockerfiles, and files whose names tell nothing: what their content starts."""

import pytest

from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import read

VLLM = "FROM vllm/vllm-openai:v0.10.2\nENV A=1\n"
STAGES = """\
# syntax=docker/dockerfile:1
ARG X=1
FROM ubuntu AS build
CMD ["other"]
FROM --platform=linux/amd64 lmsysorg/sglang:v0.5.3 AS last
ENV MODEL="org/name" LEN=8192
CMD python3 -m sglang.launch_server --model-path $MODEL \\
  --context-length ${LEN}
"""


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (f'{VLLM}CMD ["--model", "org/name", "--max-model-len", "8192"]\n', "0.10.2"),
        (f'{VLLM}ENTRYPOINT ["vllm", "serve"]\nCMD ["org/name", "--max-model-len=8192"]', "0.10.2"),
        (STAGES, "0.5.3"),
    ],
)
def test_what_the_last_stage_starts_is_the_run(text, version):
    file = read(text, "Dockerfile")
    (run,) = file.runs
    launch = parse(run.command)
    assert (file.kind, run.model, launch.settings["context"]) == ("dockerfile", "org/name", 8192)
    assert version in (run.settings.get("engine_version"), launch.settings.get("engine_version"))


def test_an_image_that_serves_no_model_is_named_so():
    with pytest.raises(UsageError, match="this Dockerfile starts nothing that has a size"):
        read('FROM postgres\nCMD ["postgres"]\n', "Dockerfile")


def test_a_modelfile_is_no_dockerfile():
    assert read("FROM qwen3:8b\nPARAMETER num_ctx 4096\n", "Modelfile").kind == "modelfile"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mylog", "serve.log.1", "vllm.service", "issue.rst", ".env", "a"])
def test_a_file_of_any_name_is_read(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("vllm serve qwen3-8b --max-model-len 8192\n")
    assert menu.run([str(path), "--gpu", "4090"]) == 0
    assert "8,192 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"a\0b", "is no text"), (b"root:x:0:0\n", "nothing in it tells what it starts")],
)
def test_what_is_wrong_with_a_file_that_is_there_is_said(tmp_path, capsys, content, says):
    path = tmp_path / "some"
    path.write_bytes(content)
    assert menu.run([str(path)]) == 2
    told = capsys.readouterr().err
    assert says in told and "no such file" not in told


def test_there_is_no_such_file_only_where_there_is_none(tmp_path, capsys):
    assert menu.run([str(tmp_path / "none.rst")]) == 2
    assert "no such file" in capsys.readouterr().err
