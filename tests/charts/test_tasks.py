"""Loading, training and inference as three bars, of a model and of a script."""

import pytest

from tests.charts.pictures import texts
from tests.cli.test_process import one_line, weighbridge
from weighbridge.faces.charts.tasks import TaskPeak, tasks, traced
from weighbridge.faces.cli.load import answers

MIB = 1 << 20


def asked(model, **settings):
    import weighbridge

    return answers(weighbridge.prepare(model), settings)


def bars(figure):
    (plot,) = figure.plots
    (group,) = plot.groups
    return {bar.label: bar for bar in group.bars}


def test_a_model_in_float32_trains_in_a_multiple_of_its_weights():
    known, refused = asked("gpt2")
    figure = tasks(known, refused)
    assert [*bars(figure)] == ["load", "full training", "inference"]
    assert not refused
    assert figure.answer.startswith("tensors, load : full training : inference: 1 : ")
    for name, report in known.items():
        drawn = bars(figure)[{"train": "full training", "infer": "inference"}.get(name, name)]
        assert drawn.high == report.peak.high


def test_packed_weights_are_trained_with_adapters():
    known, refused = asked("llama-3.1-8b", quantization="nf4", gpu="4090")
    assert [*known] == ["load", "qlora", "infer"]
    assert not refused
    figure = tasks(known, refused)
    assert [bar.mark for bar in bars(figure).values()] == ["yes", "yes", "yes"]
    assert figure.plots[0].groups[0].limit is not None


def test_what_is_not_answered_is_said():
    known, refused = asked("dinov2-giant")
    assert [*known] == ["load", "infer"]
    figure = tasks(known, refused)
    assert any("full training: " in note for note in figure.notes)


def test_a_script_in_the_ratio_of_its_tensors():
    peaks = [
        TaskPeak("load", 195 * MIB, 208 * MIB, {"weight": 195 * MIB}),
        TaskPeak("train", 390 * MIB, 438 * MIB, {"weight": 195 * MIB, "gradient": 195 * MIB}),
        TaskPeak("infer", 211 * MIB, 438 * MIB, {"weight": 195 * MIB, "input": 16 * MIB}),
    ]
    figure = traced(peaks, "train.py", "Tesla T4")
    assert figure.answer == "tensors, load : train : infer: 1 : 2 : 1.08"
    assert [*bars(figure)] == ["load", "train", "infer"]
    assert [s.name for s in figure.plots[0].series] == ["weights", "gradients", "other"]
    assert figure.table.rows[1] == ("train", "390.00", "438.00")


@pytest.mark.slow
def test_one_command_draws_the_bars(tmp_path):
    done = weighbridge("load", "gpt2", "-q", "--chart", tmp_path / "a.svg", "--chart-of", "tasks")
    assert done.returncode == 0, done.stderr
    drawn = {*texts((tmp_path / "a.svg").read_text())}
    assert {"load", "full training", "inference"} <= drawn


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["gpt2"], "is drawn in a file"),
        (["gpt2", "gpt2-large", "--chart", "a.svg"], "is of one model"),
        (["gpt2", "--gpu", "4090", "--gpu", "3090", "--chart", "a.svg"], "is of one model"),
    ],
)
def test_one_picture_is_of_one_model(more, said):
    one_line(weighbridge("load", *more, "--chart-of", "tasks"), 2, "--chart-of tasks", said)
