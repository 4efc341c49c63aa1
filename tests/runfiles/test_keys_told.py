"""Changes of a training file are told as keys that the file has, never as a script of ours."""

import pytest

import weighbridge
from weighbridge.faces.render import draw
from weighbridge.faces.texts.runfile import view
from weighbridge.files.runfiles.patching import patched

LLAMA_FACTORY = """\
model_name_or_path: Qwen/Qwen3-8B
stage: sft
finetuning_type: lora
cutoff_len: 4096
per_device_train_batch_size: 4
bf16: true
template: qwen3
"""
AXOLOTL = """\
base_model: Qwen/Qwen3-8B
adapter: lora
lora_r: 16
sequence_len: 4096
micro_batch_size: 4
bf16: true
datasets:
  - path: x
    type: alpaca
"""


@pytest.mark.slow
@pytest.mark.parametrize("text", [LLAMA_FACTORY, AXOLOTL])
def test_what_would_fit_is_told_as_keys_of_the_file(text):
    """And what is told, written into the file, fits."""
    found = weighbridge.weigh(text, name="run.yaml", gpu="4090", offline=True)
    told = draw(view(found), "human")
    (run,) = found.runs
    assert run.fits == "no"
    assert "--fix --write" in told
    assert "LoraConfig(" not in told
    first = next(r for r in run.report.remedies if r.fits == "yes")
    assert first.flags not in told
    assert "batch_size: " in told
    patch = patched(found)
    keys = [line[1:] for line in patch.diff.splitlines() if line.startswith("+") and ": " in line]
    plain = " ".join(told.split())
    assert keys
    assert all(key.strip() in plain for key in keys)
    again = weighbridge.weigh(patch.after, name="run.yaml", gpu="4090", offline=True)
    assert again.fits == "yes"


def test_a_file_that_fits_is_told_no_change():
    small = LLAMA_FACTORY.replace("8B", "0.6B").replace("4096", "512").replace(": 4\n", ": 1\n")
    found = weighbridge.weigh(small, name="run.yaml", gpu="4090", offline=True)
    assert found.runs[0].fits == "yes"
    assert "--fix" not in draw(view(found), "human")
