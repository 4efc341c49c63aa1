"""`load --chart-of quality`: one page in a picture, sizes of the model that was asked."""

import pytest
from click.testing import CliRunner

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.faces.charts.figure import MOST
from weighbridge.faces.charts.quality import beside, figure
from weighbridge.faces.cli.load import load

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
    done = CliRunner().invoke(load, ["llama-3.1-8b", "qwen3-8b", *flags])
    assert "no page prints perplexities of llama-3.1-8b, qwen3-8b on one text" in str(
        done.exception
    )


FOUR = ("llama-7b", "llama-13b", "llama-30b", "llama-65b")


@pytest.mark.slow
def test_four_llamas_of_one_page_are_one_picture():
    """README of GPTQ-for-LLaMa: 5.68, 5.09, 4.10 and 3.53 in FP16, 5.85 of the smallest in 4 bits."""
    found = beside([weighbridge.prepare(name).load for name in FOUR], PLAIN, "en")
    (plot,) = found.plots
    assert [each.name for each in plot.series] == list(FOUR)
    whole = {d.series: d for d in plot.dots if d.label == "FP16"}
    assert [whole[n].y for n in range(4)] == [5.68, 5.09, 4.10, 3.53]
    (four_bit,) = [d for d in plot.dots if d.series == 0 and d.label == "gptq-4bit-g128"]
    assert four_bit.y == 5.85
    assert whole[0].x == pytest.approx(2 * 6_738_415_616, rel=0.001)
    assert len(plot.dots) == 4 * 5
    assert {row[-1] for row in found.table.rows} == {found.notes[0].partition("Figures: ")[2]}
    assert "qwopqwop200/GPTQ-for-LLaMa@e985b70" in found.notes[0]


@pytest.mark.slow
def test_perplexities_of_several_pages_are_not_set_beside_each_other():
    """Llama 2 70B has perplexities on the page of the first ones, of other formats and no 7B's."""
    with pytest.raises(UsageError, match=r"no page prints perplexities of llama-7b, llama-3\.1-8b"):
        beside([weighbridge.prepare(n).load for n in ("llama-7b", "llama-3.1-8b")], PLAIN, "en")
    many = [weighbridge.prepare("llama-7b").load] * (MOST + 1)
    with pytest.raises(UsageError, match=f"more than {MOST} in one picture"):
        beside(many, PLAIN, "en")
