"""Files that a script writes itself are read as if they lay beside it."""

import pytest

import weighbridge
from weighbridge.files.runfiles.written import lines_of, written

TOML = "[general]\nresolution = 960\nbatch_size = 4\n"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (f"cat > a.toml << 'EOF'\n{TOML}EOF\nrun", TOML),
        (f"cat << EOF > ./a.toml\n{TOML}EOF", TOML),
        (f'sudo tee "a.toml" > /dev/null <<EOF\n{TOML}EOF', TOML),
        ("N=4\ncat > a.toml <<EOF\nbatch_size = $N\nEOF", "batch_size = 4\n"),
        ("N=4\ncat > a.toml <<'EOF'\nbatch_size = $N\nEOF", "batch_size = $N\n"),
        ("cat > a.toml <<-EOF\n\tx = 1\n\tEOF", "x = 1\n"),
        ("echo 'x = 1' > a.toml\necho \"y = 2\" >> a.toml", "x = 1\ny = 2\n"),
        ("printf 'x = 1\\ny = 2' > a.toml", "x = 1\ny = 2\n"),
        ("cat > a.toml <<E\nx = 1\nE\ncat > a.toml <<E\nx = 2\nE", "x = 2\n"),
        ("cat > a.toml <<E\nx = 1\nE\ncat >> a.toml <<E\ny = 2\nE", "x = 1\ny = 2\n"),
        ("cat >> a.toml <<E\nx = 1\nE\ncat >> a.toml <<E\ny = 2\nE", "x = 1\ny = 2\n"),
        ("D=.\ncat > $D/a.toml <<'E'\nx = $D\nE", "x = $D\n"),
        ("cat > b.toml <<E\nx = 1\nE\ncat a.toml", None),
        ("# cat > a.toml <<E\nx = 1\n", None),
        ("python - <<E\nprint(1)\nE", None),
    ],
)
def test_what_a_script_writes(script, text):
    assert written(script, "a.toml") == text


def test_each_line_of_a_script_is_given_once():
    script = f"a\ncat > f <<E\n{TOML}E\nb\n"
    first, heredoc, last = lines_of(script)
    assert (first, heredoc.line, heredoc.text, last) == ("a\n", "cat > f <<E\n", TOML, "b\n")


AXOLOTL = "base_model: Qwen/Qwen3-8B\nadapter: lora\nlora_r: 16\nmicro_batch_size: 4\nsequence_len: 2048\n"
STARTS = "axolotl train conf.yaml\n"


def answer(text, name="run.sh", **more):
    (one,) = weighbridge.weigh(text, name=name, gpu="4090", offline=True, **more).runs
    return one


def test_a_config_that_a_script_writes_is_the_config_beside_it(tmp_path):
    (tmp_path / "conf.yaml").write_text(AXOLOTL)
    (tmp_path / "run.sh").write_text(STARTS)
    there = answer(tmp_path / "run.sh", name=None)
    made = answer(f"cat > conf.yaml <<EOF\n{AXOLOTL}EOF\n{STARTS}")
    assert made.report.peak == there.report.peak
    assert made.report.workload["batch_size"] == 4
    assert made.report.verdict.fits == there.report.verdict.fits


def test_a_dataset_that_a_script_writes_decides_as_it_says():
    """kohya-ss/musubi-tuner: 960 x 960 and batches of 32 were in the TOML alone."""
    line = (
        "accelerate launch src/musubi_tuner/zimage_train_network.py --dit z_image_turbo_bf16.safetensors"
        " --dataset_config /w/a.toml --mixed_precision bf16 --optimizer_type adamw8bit"
        " --gradient_checkpointing --network_module networks.lora_zimage --network_dim 32\n"
    )
    made = answer(f"cat > /w/a.toml << 'EOF'\n{TOML}EOF\n{line}").report
    assert (made.workload["width"], made.workload["batch_size"]) == (960, 4)
    assert answer(line).report.verdict.fits == "unknown"
