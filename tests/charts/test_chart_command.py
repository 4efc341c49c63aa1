"""--chart FILE as users type it: the extension decides, the file is whole, an error is one line."""

import json
import os
import stat

import pytest

from tests.charts import made
from tests.charts.pictures import flaws, texts
from tests.cli.test_process import one_line, weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.faces.charts import drawn, svg
from weighbridge.faces.charts.reports import bars
from weighbridge.faces.cli.files import write

COMMANDS = {
    "load": ["load", "llama-3.1-8b", "--gpu", "4090"],
    "infer": ["infer", "qwen3-0.6b", "--gpu", "4090"],
    "train": ["train", "qwen3-0.6b", "--gpu", "4090"],
    "fit": ["fit", "qwen3-0.6b", "--gpu", "4090"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_about_a_model_draw(command, tmp_path):
    path = tmp_path / "chart.svg"
    done = weighbridge(*COMMANDS[command], "-q", "--chart", path)
    assert done.returncode == 0, done.stderr
    picture = path.read_text()
    assert list(flaws(picture)) == []
    assert any("RTX 4090" in text for text in texts(picture))
    assert os.listdir(tmp_path) == ["chart.svg"]


@pytest.mark.slow
def test_the_answer_is_printed_all_the_same(tmp_path):
    arguments = [*COMMANDS["load"], "--json"]
    plain, too = weighbridge(*arguments), weighbridge(*arguments, "--chart", tmp_path / "a.html")
    assert json.loads(plain.stdout) == json.loads(too.stdout)
    page = (tmp_path / "a.html").read_text()
    assert "<table>" in page
    assert "<svg " in page


@pytest.mark.slow
def test_values_of_one_setting_are_a_line(tmp_path):
    done = weighbridge(
        *COMMANDS["infer"], "--context", "1K,2K,4K", "-q", "--chart", tmp_path / "a.svg"
    )
    assert done.returncode == 0, done.stderr
    picture = (tmp_path / "a.svg").read_text()
    assert list(flaws(picture)) == []
    assert {"1,024", "2,048", "4,096", "context, tokens"} <= set(texts(picture))


@pytest.mark.slow
def test_layouts_that_fit_are_drawn(tmp_path):
    asked = ["fit", "llama-3.1-70b", "--layouts", "--for", "infer", "--gpu", "h100:8"]
    done = weighbridge(*asked, "-q", "--chart", tmp_path / "a.svg")
    assert done.returncode == 0, done.stderr
    picture = (tmp_path / "a.svg").read_text()
    assert list(flaws(picture)) == []
    assert set(done.stdout.split("\n")[:-1]) <= set(texts(picture))


@pytest.mark.slow
def test_where_no_layout_fits_there_is_no_picture(tmp_path):
    asked = ["fit", "llama-3.1-70b", "--layouts", "--for", "infer", "--gpu", "4090:2"]
    done = weighbridge(*asked, "--chart", tmp_path / "a.svg")
    assert done.returncode == 1
    assert "no layout fits" in done.stdout
    assert "no layout fits" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_ranking_of_cards_has_no_chart(tmp_path):
    done = weighbridge("fit", "qwen3-0.6b", "--all-gpus", "--chart", tmp_path / "a.svg")
    one_line(done, 2, "--chart", "a rank has -o FILE")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chart.gif", "chart", "chart.svgz", ".", "svg"])
def test_another_extension_is_refused(name):
    one_line(
        weighbridge("load", "llama-3.1-8b", "--chart", name), 2, "--chart", ".svg, .png or .html"
    )


@pytest.mark.slow
def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.svg").mkdir()
    one_line(weighbridge("load", "llama-3.1-8b", "--chart", tmp_path / "a.svg"), 2, "is a folder")


@pytest.mark.slow
def test_a_folder_that_is_not_there_is_said_before_the_work(tmp_path):
    done = weighbridge("load", "no/such-model", "--chart", tmp_path / "no" / "a.svg")
    one_line(done, 2, "there is no folder")


@pytest.mark.slow
def test_a_model_that_is_not_there_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("before")
    assert weighbridge("load", "./no-such-model", "--chart", path).returncode == 2
    assert path.read_text() == "before"


@pytest.mark.slow
def test_the_extension_is_read_in_any_case(tmp_path):
    assert weighbridge(*COMMANDS["load"], "-q", "--chart", tmp_path / "A.SVG").returncode == 0
    assert (tmp_path / "A.SVG").read_text().startswith("<svg ")


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    path.write_bytes(b"before")
    path.chmod(0o640)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(str(path), b"after")
    assert path.read_bytes() == b"before"
    monkeypatch.undo()
    write(str(path), b"after")
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.svg"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.svg").write_bytes(b"before")
    (tmp_path / "link.svg").symlink_to("real.svg")
    write(str(tmp_path / "link.svg"), b"after")
    assert (tmp_path / "link.svg").is_symlink()
    assert (tmp_path / "real.svg").read_bytes() == b"after"


def test_png_without_its_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(svg, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'weighbridge\[png\]'"):
        drawn(bars(made.report()), ".png")


def test_png_is_twice_the_size_of_the_picture():
    pytest.importorskip("resvg_py")
    try:
        content = drawn(bars(made.report()), ".png")
    except UsageError as error:
        pytest.skip(str(error))
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(content[16:20]) == 1600


def test_png_without_a_font_says_so(monkeypatch):
    pytest.importorskip("resvg_py")
    monkeypatch.setattr(svg, "_rasterized", lambda picture, zoom=1.0: b"blank")
    with pytest.raises(UsageError, match="no font"):
        svg.png(bars(made.report()))


@pytest.mark.slow
def test_charts_are_imported_when_they_are_asked_for():
    from tests.test_architecture import imported_by, ours

    names = ours(imported_by("load", "llama-3.1-8b", "-q"))
    assert not [name for name in names if name.startswith("charts")]
