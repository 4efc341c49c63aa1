"""Repositories as people publish them: what a README starts, and what is not here."""

import pytest

from weighbridge_lab.trace.repository import read

README = """# Net

```bash
pip install -r requirements.txt
python -m pip install nothing
$ CUDA_VISIBLE_DEVICES=0 python train.py --config configs/base.yaml \\
    --data data/coco --out runs
torchrun --nproc_per_node 8 -m net.run --x 1   # on eight
python train.py --config configs/base.yaml --data data/coco --out runs
python "unclosed.py
```

Training takes about 22 GB of an A100. It has 3 GB of pictures.
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "configs" / "base.yaml").write_text("a: 1")
    (tmp_path / "train.py").write_text(
        "import os, absent_one.part\nfrom net.model import Net\nfrom net import blocks\n"
        "try:\n    import absent_three\nexcept ImportError:\n    pass\n"
    )
    (tmp_path / "net" / "model.py").write_text("from . import blocks\nimport absent_two, json\n")
    (tmp_path / "net" / "run.py").write_text("import sys\n")
    return tmp_path


def test_commands_are_told_with_what_is_not_here(repository):
    first, second = read(str(repository)).starts
    assert first.place == "README.md:6" and first.words[:2] == ("python", "train.py")
    assert first.packages == ("absent_one", "absent_two")
    assert first.files == ("data/coco",)
    assert first.trace.startswith(
        "weighbridge trace --gpu NAME --stub absent_one,absent_two python"
    )
    assert second.words == ("torchrun", "--nproc_per_node", "8", "-m", "net.run", "--x", "1")
    assert second.packages == second.files == () and "--stub" not in second.trace


def test_memory_is_quoted_with_its_line(repository):
    assert read(str(repository)).stated == (
        ("README.md:13", "Training takes about 22 GB of an A100. It has 3 GB of pictures."),
    )


def test_a_folder_that_starts_nothing(tmp_path):
    assert read(str(tmp_path)).starts == ()
    (tmp_path / "README.md").write_bytes(b"\xff" * 100 + b"python \n```\npython train\n")
    (tmp_path / "train.py").write_text("this is (no python")
    assert read(str(tmp_path)).starts == ()
    (tmp_path / "README.md").write_text("python train.py\n")
    assert [start.packages for start in read(str(tmp_path)).starts] == [()]


def test_a_readme_that_links_out_of_the_repository_is_not_read(tmp_path):
    (tmp_path / "secret.md").write_text("python steal.py\nneeds 24 GB of VRAM\n")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/README.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "repository/real.md").write_text("python train.py\n")
    (tmp_path / "repository/README.zh.md").symlink_to("real.md")
    found = read(str(tmp_path / "repository"))
    assert [start.words for start in found.starts] == [("train.py",)] and not found.stated
