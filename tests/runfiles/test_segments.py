"""The variable of torch's allocator, as files of all kinds set it."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.segments import grows

TRUE = "PYTORCH_ALLOC_CONF=expandable_segments:True"
LINE = "torchrun --nproc_per_node 8 train.py --model_name_or_path org/name --bf16 True\n"


@all_of(
    ("text", "found"),
    [
        (f"export {TRUE}\n{LINE}", True),
        (f"# first\nPYTORCH_CUDA_ALLOC_CONF='expandable_segments:True' \\\n{LINE}", True),
        (f"export PYTORCH_ALLOC_CONF=max_split_size_mb:128,expandable_segments:True\n{LINE}", True),
        (f"export {TRUE}\nexport PYTORCH_ALLOC_CONF=expandable_segments:False\n{LINE}", False),
        (f"export {TRUE}\n{LINE}{LINE}", True),
        (f"{TRUE} {LINE}{LINE}", None),  # one with it, and one without
        (f"{LINE}export {TRUE}\n", None),
        (f"export {TRUE}\nexport PYTORCH_ALLOC_CONF=max_split_size_mb:128\n{LINE}", None),
        (f"export {TRUE}\nunset PYTORCH_ALLOC_CONF\n{LINE}", None),
        (f"# export {TRUE}\n{LINE}", None),
        (f"{LINE[:-1]} # {TRUE}\n", None),
        (f"echo 'try {TRUE}'\n{LINE}", None),
        (f"export PYTORCH_ALLOC_CONF=expandable_segments:perhaps\n{LINE}", None),
        (LINE, None),
    ],
)
def test_a_shell_says_that_segments_grow(text, found):
    assert grows(text, "shell") is found


@all_of(
    ("text", "found"),
    [
        (f"cat > env.sh <<EOF\nexport {TRUE}\nEOF\n{LINE}", None),  # a file's, and not the shell's
        (f"cat > run.sh <<'EOF'\nexport {TRUE}\n{LINE}EOF\nchmod +x run.sh\n", True),
        (f'cat > t.py <<EOF\nprint("it\'s")\nEOF\nexport {TRUE}\n{LINE}', True),
        (f"export {TRUE}\nbash <<EOF\n{LINE}EOF\n", True),
        (f"export {TRUE}\nssh host bash -s <<EOF\n{LINE}EOF\n", None),
        (f"cat <<EOF\nexport {TRUE}\n", None),  # it does not end
        (f"if false; then\n  export {TRUE}\nfi\n{LINE}", None),
        (f"if true; then\n  export {TRUE}\nfi\n{LINE}", True),
        (f"A=1\nif [ $A = 2 ]; then\n  export {TRUE}\nfi\n{LINE}", None),
        (f"A=2\nif [ $A = 2 ]; then\n  export {TRUE}\nfi\n{LINE}", True),
        (f"if [ -f x ]; then\n  export {TRUE}\nfi\n{LINE}", None),  # nobody knows
        (f"if [ -f x ]; then\n  export {TRUE}\n  {LINE}fi\n", True),
        (f"for s in 1 2; do\n  export {TRUE}\n  {LINE}done\n", True),
    ],
)
def test_what_a_shell_may_not_do_says_nothing(text, found):
    assert grows(text, "shell") is found


@all_of(
    ("text", "found"),
    [
        (f"#SBATCH --export=ALL,{TRUE}\nsrun {LINE}", True),
        (f"#SBATCH --export={TRUE}\n{LINE}", True),
        (f"#SBATCH --export=NONE\nexport {TRUE}\nsrun {LINE}", None),
        (f"#SBATCH --export=NONE\nexport {TRUE}\n{LINE}", True),  # no srun, which would drop it
        (f"#SBATCH --export=NONE\nexport {TRUE}\nsrun --export=ALL {LINE}", True),
        (f"export {TRUE}\nsrun --export=HOME {LINE}", None),
        (f"export {TRUE}\nsrun --export=PYTORCH_ALLOC_CONF {LINE}", True),
        (f"srun --export=ALL,{TRUE} {LINE}", True),
    ],
)
def test_what_slurm_exports(text, found):
    """SLURM_EXPORT_ENV hands a job's --export on to its srun (man sbatch, srun)."""
    assert grows(text, "shell") is found


@all_of(
    ("text", "found"),
    [
        ('os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"', True),
        ("os.environ.setdefault('PYTORCH_CUDA_ALLOC_CONF', 'expandable_segments:False')", False),
        ('environ["PYTORCH_ALLOC_CONF"] = (\n    "expandable_segments:True,"\n "a:1"\n)', None),
        ('environ["PYTORCH_ALLOC_CONF"] = (\n    "max_split_size_mb:64,"\n "expandable_segments:True")',
         True),
        ('os.environ.update({"PYTORCH_ALLOC_CONF": "expandable_segments:True"})', True),
        ('os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")', None),
        ('"""Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True if it does not fit."""', None),
        ('# os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"', None),
    ],
)  # fmt: skip
def test_a_script_says_that_segments_grow(text, found):
    assert grows(text, "python") is found


def test_other_texts_say_nothing_of_it():
    assert grows('env: {PYTORCH_ALLOC_CONF: "expandable_segments:True"}', "yaml") is None


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


@pytest.mark.slow
def test_less_is_kept_where_segments_grow():
    model = weighbridge.prepare("qwen3-8b", offline=True)
    asked = {name: value for name, value in LORA.items() if name != "offline"}
    plain, growing, again, other = (
        model.train(gpu=gpu, expandable_segments=grows, **asked)
        for gpu, grows in (
            ("a100-80gb", None), ("a100-80gb", True), ("a100-80gb", False), ("h100", True),
        )
    )  # fmt: skip
    assert kept(growing) < kept(plain) / 2
    assert kept(again) == kept(plain)
    assert kept(other) < kept(plain) / 2
    assert growing.workload["expandable_segments"] is True
    assert "expandable_segments" not in plain.workload


def test_older_releases_of_torch_have_none():
    with pytest.raises(weighbridge.UsageError, match=r"torch has them since 2\.1"):
        weighbridge.train("qwen3-8b", expandable_segments=True, torch_version="2.0", **LORA)


@pytest.mark.slow
def test_a_script_that_is_written_says_it_and_is_read_again(tmp_path):
    from weighbridge.faces.cli.menu import run as cli

    path = tmp_path / "train.py"
    line = "train qwen3-8b --framework trl --method lora --expandable-segments --gpu h100"
    assert cli([*line.split(), "--save", str(path)]) == 0
    text = path.read_text()
    assert text.index("import os") < text.index("import torch")
    found = read(text, "train.py")
    assert found.kind == "training-script"
    assert found.runs[0].settings["expandable_segments"] is True


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["axolotl", "trl", "accelerate"])
def test_the_command_of_an_emitted_file_sets_it(kind, capsys):
    from weighbridge.faces.cli.menu import run as cli

    framework = "trainer" if kind == "accelerate" else kind
    line = f"train llama-3.2-1b --framework {framework} --method lora --gpu h100 --emit {kind}"
    assert cli([*line.split(), "--expandable-segments"]) == 0
    shown = capsys.readouterr()
    assert "start it with: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in shown.err
    assert "# Start it with: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in shown.out


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["axolotl", "unsloth"])
def test_some_frameworks_ask_for_it_themselves(framework):
    """Axolotl has sizes rounded up besides, which keeps more again."""
    asked = {"framework": framework, "method": "lora", "gpu": "a100-80gb", "offline": True}
    own, off, on = (
        kept(weighbridge.train("qwen3-8b", seq_len=2048, expandable_segments=said, **asked))
        for said in (None, False, True)
    )
    assert on < off != own
    assert (own == on) is (framework == "unsloth")


@pytest.mark.slow
def test_a_framework_that_does_not_ask():
    own, off = (
        kept(weighbridge.train("qwen3-8b", gpu="a100-80gb", expandable_segments=said, **LORA))
        for said in (None, False)
    )
    assert own == off
