"""A script with secrets in it: none of them is on any screen, and its launch line stands alone."""

import json

import pytest

from weighbridge.faces.cli.menu import run

SCRIPT = """\
#!/bin/bash
#SBATCH --gres=gpu:1
export MY_KEY=plain-secret-one
export HF_TOKEN=plain-secret-two
export VLLM_ATTENTION_BACKEND=FLASH_ATTN
curl -u admin:plain-secret-three https://a.b
curl -H "Authorization: Bearer plain-secret-four" https://a.b
LONG="--max-model-len 131072"
vllm serve llama-3.1-8b $LONG --api-key 'plain secret five'
"""
LINE = "vllm serve llama-3.1-8b --max-model-len 131072 --api-key '***'"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sh", "md"])
@pytest.mark.parametrize(
    "form",
    ["", "--details", "--json", "--format html", "--format markdown", "--fix", "--fix --json"],
)
def test_no_secret_of_a_script_is_printed(form, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = SCRIPT if kind == "sh" else f"Out of memory:\n```bash\n{SCRIPT}```\n"
    # where the flag itself stands in the line, the diff holds it
    text = text.replace("$LONG", "--max-model-len 131072") if "fix" in form else text
    (tmp_path / f"run.{kind}").write_text(text)
    command = [f"run.{kind}", "--gpu", "4090", "--offline", *form.split()]
    run(command)
    told = capsys.readouterr()
    said = f"{told.out}{told.err}"
    assert "4090" in said or "fix" in form
    for word in ("plain-secret", "plain secret", "secret five"):
        assert word not in said
    if form == "--json":
        (found,) = json.loads(told.out)["runs"]
        assert found["command"].removeprefix("VLLM_ATTENTION_BACKEND=FLASH_ATTN ") == LINE
        assert "SBATCH" not in told.out
    if form == "--fix" and kind == "sh":
        assert "--api-key '***'" in told.out
