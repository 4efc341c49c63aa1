"""Scripts that `train --save` writes, run on a fake GPU: they take what the answer said."""

import json
import subprocess
import sys

import pytest

from tests.cases import each
from weighbridge.faces.cli.menu import run

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

MODEL = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 40_000,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
    "eos_token_id": 1,
}
TIMEOUT = 300
CLOSE = 0.03  # SFTTrainer leaves out the token that none follows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model with its tokenizer, which SFTTrainer asks for, in the folder that is worked in."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/config.json").write_text(json.dumps(MODEL))
    tokenizers.Tokenizer(words).save(str(tmp_path / "tiny/tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "b", "eos_token": "b"}
    (tmp_path / "tiny/tokenizer_config.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    each(
        2,
        [
            "--method lora",
            "--method qlora",
            "--framework trainer",
            "--framework trainer --method qlora --checkpointing full",
        ],
    ),
)
def test_a_saved_script_takes_what_was_printed(folder, capfd, flags):
    if "trainer" not in flags:
        pytest.importorskip("trl")
        pytest.importorskip("triton", reason="TRL's loss is a kernel of Triton's")
    if "qlora" in flags:
        pytest.importorskip("bitsandbytes")
    asked = f"tiny --gpu 3060 --seq-len 512 {flags} --json --save train.py"
    assert run(["train", *asked.split()]) == 0
    told = json.loads(capfd.readouterr().out)["devices"][0]["peak"]["allocated"]["expected"]
    typed = [
        sys.executable,
        "-m",
        "weighbridge",
        "trace",
        "--gpu",
        "3060",
        "--steps",
        "2",
        "--json",
    ]
    done = subprocess.run([*typed, "train.py"], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    traced = json.loads(done.stdout)["devices"][0]["allocated"]["allocated"]
    assert traced == pytest.approx(told, rel=CLOSE)
