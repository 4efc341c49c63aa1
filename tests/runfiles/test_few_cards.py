"""A container that is given fewer cards than its line starts ranks does not start."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read

COMPOSE = """services:
  vllm:
    image: vllm/vllm-openai:v0.11.0
    command: --model Qwen/Qwen3-8B {flags}
    deploy:
      resources:
        reservations:
          devices: [{{driver: nvidia, count: {cards}, capabilities: [gpu]}}]
"""
WHY = "the line starts {} ranks, and the container gets {}: it does not start so"
CASES = [
    ("--tensor-parallel-size 2", 1, WHY.format(2, "1 card")),
    ("--tensor-parallel-size 2 --pipeline-parallel-size 2", 2, WHY.format(4, "2 cards")),
    ("--tensor-parallel-size 2", 2, ""),
    ("--tensor-parallel-size 2", 4, ""),
    ("", 1, ""),
    ("--tensor-parallel-size 16", 8, ""),  # of two machines
    ("--tensor-parallel-size 2 --distributed-executor-backend ray", 1, ""),
]


@all_of(("flags", "cards", "why"), CASES)
def test_fewer_cards_than_ranks_are_told(flags, cards, why):
    run = read(COMPOSE.format(flags=flags, cards=cards), "compose.yaml").runs[0]
    assert "".join(one.why for one in run.unread if one.key == "cards") == why


@pytest.mark.slow
def test_what_does_not_start_is_no_yes(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE.format(flags="--tensor-parallel-size 2", cards=1))
    found = weighbridge.weigh(path, gpu="l40s:2")
    assert found.fits == "unknown"
    assert found.runs[0].report.verdict.reason.startswith(
        "the line starts 2 ranks, and the container"
    )
    path.write_text(COMPOSE.format(flags="--tensor-parallel-size 2", cards=2))
    assert weighbridge.weigh(path, gpu="l40s:2").fits == "yes"


@pytest.mark.parametrize(
    ("typed", "card"),
    [("h100", "h100:2"), ("h100:4", "h100:4"), ("h100+h200", "h100+h200"), ("2x h100", "2x h100")],
)
def test_a_file_says_how_many_and_an_option_which(typed, card):
    from weighbridge.workload import read as asked

    line = "vllm serve qwen3-0.6b -tp 2 --max-model-len 512"
    (run,) = weighbridge.weigh(line, name="run.sh", gpu=typed).runs
    if run.report is not None:
        assert run.report.workload["gpu"] == asked("infer", {"gpu": card}).gpu
    trained = (
        "torchrun --nproc_per_node 2 train.py --model_name_or_path qwen3-0.6b --max_length 512"
    )
    (run,) = weighbridge.weigh(trained, name="run.sh", gpu=typed).runs
    if run.report is not None:
        assert run.report.workload["gpu"] == asked("train", {"gpu": card}).gpu
