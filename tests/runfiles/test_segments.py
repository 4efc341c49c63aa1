"""The variable of torch's allocator, as files of all kinds set it."""

import pytest

import weighbridge
from weighbridge.runfiles import read
from weighbridge.runfiles.segments import grows

TRUE = "PYTORCH_ALLOC_CONF=expandable_segments:True"
LINE = "torchrun --nproc_per_node 8 train.py --model_name_or_path org/name --bf16 True\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True\n", (True, 1)),
        ("# first\nPYTORCH_CUDA_ALLOC_CONF='expandable_segments:True' \\\n", (True, 2)),
        ("PYTORCH_ALLOC_CONF=max_split_size_mb:128,expandable_segments:True run", (True, 1)),
        ('os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"', (True, 1)),
        ("os.environ.setdefault('PYTORCH_CUDA_ALLOC_CONF', 'expandable_segments:False')",
         (False, 1)),
        ("- name: PYTORCH_CUDA_ALLOC_CONF\n  value: expandable_segments:True", (True, 2)),
        ('env:\n  PYTORCH_CUDA_ALLOC_CONF: "expandable_segments:True"', (True, 2)),
        ("environment:\n- PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", (True, 2)),
        ('{"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}', (True, 1)),
        (f"{TRUE}\n{TRUE.replace('True', 'False')}", (False, 2)),
        ("# export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True\n", None),
        ("export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128\n", None),
        ("see expandable_segments:True in the manual of PYTORCH_CUDA_ALLOC_CONF", None),
        ("", None),
    ],
)  # fmt: skip
def test_who_says_that_segments_grow(text, found):
    assert grows(text) == found


def test_a_run_that_trains_has_it():
    (run,) = read(f"export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True\n{LINE}", "a.sh").runs
    assert run.settings["expandable_segments"] is True
    (key,) = (k for k in run.understood if k.setting == "expandable_segments")
    assert (key.key, key.line) == ("PYTORCH_CUDA_ALLOC_CONF", 1)
    (plain,) = read(LINE, "a.sh").runs
    assert "expandable_segments" not in plain.settings


def test_a_run_that_serves_has_not():
    text = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True vllm serve org/name\n"
    (run,) = read(text, "a.sh").runs
    assert "expandable_segments" not in run.settings


LORA = {"method": "lora", "batch_size": 4, "seq_len": 4096, "framework": "trl", "offline": True}


def kept(report):
    """Bytes that the allocator keeps beside tensors, at the fullest moment."""
    fullest = max(report.devices[0].phases, key=lambda p: p.at("reserved").expected)
    return fullest.at("reserved").expected - fullest.at("allocated").expected


def test_less_is_kept_where_segments_grow():
    model = weighbridge.prepare("qwen3-8b", offline=True)
    asked = {name: value for name, value in LORA.items() if name != "offline"}
    plain, growing, again, other = (
        model.train(gpu=gpu, expandable_segments=grows, **asked)
        for gpu, grows in (
            ("a100-80gb", None), ("a100-80gb", True), ("a100-80gb", False), ("h100", True),
        )
    )  # fmt: skip
    assert kept(growing) < kept(plain) / 4
    assert kept(again) == kept(plain)
    assert kept(other) < kept(plain) / 4
    assert growing.workload["expandable_segments"] is True
    assert "expandable_segments" not in plain.workload


def test_older_releases_of_torch_have_none():
    with pytest.raises(weighbridge.UsageError, match=r"torch has them since 2\.1"):
        weighbridge.train("qwen3-8b", expandable_segments=True, torch_version="2.0", **LORA)


def test_a_script_that_is_written_says_it_and_is_read_again(tmp_path):
    from weighbridge.cli.menu import run as cli

    path = tmp_path / "train.py"
    line = "train qwen3-8b --framework trl --method lora --expandable-segments --gpu h100"
    assert cli([*line.split(), "--save", str(path)]) == 0
    text = path.read_text()
    assert text.index("import os") < text.index("import torch")
    (run,) = read(text, "train.py").runs
    assert run.settings["expandable_segments"] is True
