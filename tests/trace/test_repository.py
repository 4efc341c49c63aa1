"""Repositories as people publish them: what a README starts, and what is not here."""

import pytest

from weighbridge_lab.trace.repository import MOST, read

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
    (tmp_path / "net" / "tools").mkdir()
    (tmp_path / "net" / "tools" / "fit.py").write_text("import blocks, absent_four\n")
    (tmp_path / "net" / "blocks.py").write_text("")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.sh").write_text(
        "#!/bin/bash\n# python train.py --never\nfor s in 1 2; do\n"
        "  nohup python -u train.py --seed $s > log.txt 2>&1 &\ndone\n"
    )
    (tmp_path / "Makefile").write_text(
        ".PHONY: fit\nfit: data\n\t@python train.py --x 5\n\nother:\n\tpython net/run.py\n"
    )
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
    (tmp_path / "README.md").write_text("python missing.py\n")
    assert read(str(tmp_path)).starts == ()
    (tmp_path / "README.md").write_text("python train.py\n")
    assert [start.packages for start in read(str(tmp_path)).starts] == [()]


def test_a_readme_that_links_out_of_the_repository_is_not_read(tmp_path):
    (tmp_path / "secret.md").write_text("python steal.py\nneeds 24 GB of VRAM\n")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/train.py").write_text("")
    (tmp_path / "repository/README.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "repository/real.md").write_text("python train.py\n")
    (tmp_path / "repository/README.zh.md").symlink_to("real.md")
    found = read(str(tmp_path / "repository"))
    assert [start.words for start in found.starts] == [("python", "train.py")] and not found.stated


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Run `python train.py --x 1` now.", "python train.py --x 1"),
        ("cd net && python run.py", "python net/run.py"),
        ("cd net/tools; python3 fit.py", "python3 net/tools/fit.py"),
        ("uv run python train.py", "python train.py"),
        ("uv run --extra gpu python train.py", "python train.py"),
        ("poetry run python -u train.py", "python -u train.py"),
        ("conda run -n net python train.py", "python train.py"),
        ("CUDA_VISIBLE_DEVICES=0 nohup python -u train.py > log 2>&1 &", "python -u train.py"),
        ("!python train.py --x 2", "python train.py --x 2"),
        ("$ time python3.11 train.py | tee log", "python3.11 train.py"),
        ("for s in 1 2; do python train.py --seed $s; done", "python train.py --seed $s"),
        ("deepspeed --num_gpus=4 train.py --x 1", "torchrun --nproc-per-node 4 train.py --x 1"),
        ("deepspeed train.py", "torchrun --nproc-per-node 1 train.py"),
        (
            "accelerate launch --num_processes 2 train.py",
            "accelerate launch --num_processes 2 train.py",
        ),
        ("bash scripts/train.sh", "python -u train.py --seed $s"),
        ("uv run train.py --x 3", "python train.py --x 3"),
        ("./train.py --x 4", "python train.py --x 4"),
        ("make fit", "python train.py --x 5"),
        ("make sure that it runs", None),
        (f"python {'-' * 3000}train.py", None),
        ("./scripts/train.sh 1", "python -u train.py --seed $s"),
        ("python missing.py", None),
        ("python ../outside.py", None),
        ("pip install x && python -m pip install y", None),
        ("python -m pytest tests", None),
        ("python setup.py install", None),
        ("bash scripts/missing.sh", None),
        ("The script `train.py` is python.", None),
    ],
)
def test_each_way_to_start_a_program_is_read(repository, line, words):
    (repository / "README.md").write_text(f"{line}\n")
    found = read(str(repository))
    assert [" ".join(start.words) for start in found.starts] == ([] if words is None else [words])
    assert not any(start.files for start in found.starts)


def test_all_commands_are_counted_and_the_first_told(repository):
    (repository / "README.md").write_text("".join(f"python train.py {n}\n" for n in range(30)))
    found = read(str(repository))
    assert found.total == 30 > len(found.starts) == MOST


def test_a_module_above_the_script_is_its_own(repository):
    (repository / "README.md").write_text("python net/tools/fit.py\n")
    (start,) = read(str(repository)).starts
    assert start.packages == ("absent_four",)


@pytest.mark.parametrize(
    "text",
    [
        "python " + "a" * 1_000_000 + ".py\n",
        "".join(f"python train.py --x {n}\n" for n in range(50_000)),
        "python train.py " + "-" * 3000 + "\n",
        "`" * 100_000 + "\n",
    ],
)
def test_a_readme_that_is_no_readme_takes_no_time(repository, text):
    (repository / "README.md").write_text(text[: 1 << 20])
    assert len(read(str(repository)).starts) <= 12


@pytest.mark.parametrize(
    ("names", "example"),
    [
        ([], "train.py"),
        (["lesson.ipynb", "setup.py"], "lesson.ipynb"),
        (["a.py", "train_net.py", "b.ipynb"], "train_net.py"),
    ],
)
def test_a_folder_without_commands_names_a_program_of_its_own(tmp_path, names, example):
    for name in names:
        (tmp_path / name).write_text("")
    assert read(str(tmp_path)).example == str(tmp_path / example)
