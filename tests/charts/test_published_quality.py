"""`load --chart-of quality`: one page in a picture, sizes of the model that was asked."""

import pytest
from click.testing import CliRunner

import weighbridge
from weighbridge.charts.quality import figure
from weighbridge.cli.load import load
from weighbridge.errors import UsageError

PLAIN = {"engine_version": None, "base_model": False}


def drawn(name):
    return figure(weighbridge.prepare(name).load, PLAIN, "en")


@pytest.mark.slow
def test_the_axis_is_the_loss_of_the_page_and_the_size_of_this_model():
    found = drawn("llama-3.1-8b")
    (plot,) = found.plots
    dots = {d.label: d for d in plot.dots}
    assert dots["Q4_K_M"].y == pytest.approx(100 * (6.407115 / 6.23316 - 1))
    assert dots["Q2_K"].y == pytest.approx(56.447, abs=0.001)
    report = weighbridge.load("llama-3.1-8b")
    (row,) = (r for r in report.table if r.dtype == "Q4_K_M")
    assert dots["Q4_K_M"].x == pytest.approx(row.total_bytes, rel=0.001)


@pytest.mark.slow
def test_one_page_and_one_model_are_in_a_picture():
    for name in ("llama-3.1-8b", "llama-2-7b"):
        found = drawn(name)
        assert len(found.plots[0].series) == 1
        assert len({row[-1] for row in found.table.rows}) == 1
        assert "github.com/ggerganov/llama.cpp@c392e50" in found.notes[0]


@pytest.mark.parametrize("name", ["bert-base-uncased", "qwen3-8b"])  # of that, divergence alone
def test_nothing_published_is_nothing_drawn(name, tmp_path):
    file = tmp_path / "q.svg"
    flags = [name, "--chart", str(file), "--chart-of", "quality"]
    with pytest.raises(UsageError, match="no published perplexity"):
        CliRunner().invoke(load, flags, catch_exceptions=False)
    assert not file.exists()


@pytest.mark.slow
def test_a_picture_of_quality_has_a_file_and_one_model(tmp_path):
    done = CliRunner().invoke(load, ["llama-3.1-8b", "--chart-of", "quality"])
    assert done.exit_code == 2
    assert "--chart FILE.svg" in done.output
    file = tmp_path / "q.svg"
    flags = ["--chart", str(file), "--chart-of", "quality"]
    assert CliRunner().invoke(load, ["llama-3.1-8b", *flags]).exit_code == 0
    assert "Q4_K_M" in file.read_text()
    assert CliRunner().invoke(load, ["llama-3.1-8b", "qwen3-8b", *flags]).exit_code == 2
