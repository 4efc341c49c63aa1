"""Runs that learn from rewards: instants in one line, in their order, and by role in details."""

import pytest

import weighbridge
from weighbridge.faces.view import screen
from weighbridge.faces.view.records import Grid, Lines
from weighbridge.training.learning import FILES, TITLES

ASKED = {"method": "grpo", "framework": "verl", "gpu": "h100:2", "max_tokens_per_gpu": 2048}


@pytest.fixture(scope="module")
def report():
    model = weighbridge.prepare("qwen2.5-0.5b")
    return model.train(**ASKED, max_new_tokens=1024, remedies=False)


def line(report, **how):
    shown = screen(report, **how)
    unit = next(b for b in shown.blocks if isinstance(b, Lines))
    return shown, unit.lines[0].text


def test_instants_stand_in_one_line_in_their_order_and_one_is_marked(report):
    shown, text = line(report)
    assert shown.title.startswith("GRPO of qwen2.5-0.5b by verl · 2,048 tokens")
    named = [part.rstrip(" ◀").rpartition(" ")[0] for part in text.split(": ")[1].split(" · ")]
    assert named == [
        *("engine start", "rollout", "log-probs", "forward", "loss", "backward", "step"),
        *("weight sync", "cache wake-up"),
    ]
    assert text.count("◀") == 1
    _, chinese = line(report, lang="zh")
    assert "采样" in chinese and "反向" in chinese


def test_details_tell_each_instant_by_role_and_they_add_up(report):
    grids = [b for b in screen(report, details=True).blocks if isinstance(b, Grid)]
    grid = next(g for g in grids if g.columns[0].head == "instant")
    assert [c.head for c in grid.columns] == ["instant", "trainer", "engine", "process", "in all"]
    assert len(grid.rows) == len(report.fullest.phases)
    for row in grid.rows:
        *parts, whole = (float(c.text.rstrip(" ◀") or 0) for c in row[1:])
        assert sum(parts) == pytest.approx(whole, abs=0.2)


def test_every_framework_is_written_as_people_do():
    assert FILES.keys() == TITLES.keys()
    assert TITLES["nemo-rl"] == "NeMo-RL"


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_an_answer_s_length_beside_rows_that_exist_is_no_row_of_two_parts(method):
    report = weighbridge.prepare("gpt2").train(method=method, max_new_tokens=512)
    assert "1 x 1,024 tokens" in screen(report).title
