"""The door: `weighbridge FILE`, `train FILE`, `fit FILE` and a paste give the answer that the same
settings give by hand."""

import io
import json
from itertools import product

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.faces.cli import menu
from weighbridge.faces.render import draw
from weighbridge.faces.texts.runfile import view
from weighbridge.faces.view.records import RenderOptions
from weighbridge.files.runfiles import read, weighing
from weighbridge.files.runfiles.kinds import kinds

CONFIG = """\
base_model: llama-3.1-8b  # a comment
load_in_4bit: true
adapter: qlora
sequence_len: 4096
micro_batch_size: 2
lora_r: 16
lora_target_linear: true
gradient_checkpointing: true
bf16: auto
strange: 7
"""
BY_HAND = {
    "framework": "axolotl",
    "method": "qlora",
    "seq_len": 4096,
    "batch_size": 2,
    "lora_r": 16,
    "lora_targets": "all-linear",
    "checkpointing": "full",
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def run(capsys, monkeypatch):
    def asked(*words, stdin=""):
        pipe = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        monkeypatch.setattr("sys.stdin", pipe)
        code = menu.run(list(words))
        return code, *capsys.readouterr()

    return asked


@pytest.mark.slow
def test_the_answer_is_that_of_the_settings_typed_by_hand(file):
    found = weighbridge.weigh(file, gpu="4090")
    by_hand = weighbridge.train("llama-3.1-8b", gpu="4090", **BY_HAND)
    assert found.runs[0].report.peak == by_hand.peak
    assert found.fits == by_hand.verdict.fits
    assert weighbridge.weigh(CONFIG, gpu="4090").runs[0].report.peak == by_hand.peak


@pytest.mark.slow
def test_what_is_typed_wins(file):
    found = weighbridge.weigh(file, gpu="4090", seq_len=1024)
    by_hand = weighbridge.train("llama-3.1-8b", gpu="4090", **{**BY_HAND, "seq_len": 1024})
    assert found.runs[0].report.peak == by_hand.peak
    with pytest.raises(UsageError, match="no setting 'context'"):
        weighbridge.weigh(file, context=1024)


@pytest.mark.slow
def test_every_command_takes_the_file(file, run):
    _, bare, _ = run(file, "--gpu", "4090", "--json")
    _, trained, _ = run("train", file, "--gpu", "4090", "--json")
    assert json.loads(bare)["runs"][0]["report"] == json.loads(trained)["runs"][0]["report"]
    assert run("fit", file, "--gpu", "a100-80gb", "-q")[:2] == (0, "yes\n")
    assert run("fit", file, "--gpu-memory", "4GiB", "-q")[:2] == (1, "no\n")
    assert run(file, "--gpu-memory", "4GiB", "-q")[:2] == (0, "no\n")
    report = json.loads(trained)["runs"][0]["report"]
    peak = report["devices"][0]["peak"]["driver"]["expected"]
    assert run("train", file, "--gpu", "4090", "-q")[:2] == (0, f"{peak}\n")
    code, _, said = run("infer", file, "--gpu", "4090")
    assert code == 2 and "is about train" in said


@pytest.mark.slow
def test_a_paste_says_what_was_read_and_what_was_not(run):
    code, told, warned = run("-", "--gpu", "4090", stdin=CONFIG)
    assert code == 0
    assert "the text: axolotl config" in told
    assert "sequence_len 4096" in told
    assert "the text:10: strange: it is no key that we know" in warned


@pytest.mark.slow
def test_a_file_without_a_model_says_how_to_name_it():
    text = CONFIG.replace("llama-3.1-8b", "$MODEL")
    (lacking,) = weighbridge.weigh(text, name="run.yaml").runs
    assert lacking.report is None
    assert "--model" in lacking.why
    (named,) = weighbridge.weigh(text, name="run.yaml", model="llama-3.1-8b").runs
    assert named.report is not None


NAMELESS = CONFIG.replace("llama-3.1-8b", "$MODEL").replace("4096", "64")


@pytest.mark.slow
def test_a_command_about_a_file_takes_the_model_that_it_does_not_name(tmp_path, run):
    path = tmp_path / "run.yaml"
    path.write_text(NAMELESS)
    for words in (("train", str(path)), (str(path),), ("fit", str(path), "--gpu", "4090")):
        code, told, _ = run(*words, "--model", "qwen3-0.6b", "--json")
        assert code == 0
        assert json.loads(told)["runs"][0]["report"]["model"]["name"] == "qwen3-0.6b"
        code, told, _ = run(*words)
        assert code == 2 and "--model says it" in told
    assert run("train", str(path), "-q") == (2, "unknown\n", "")
    zero = tmp_path / "ds.json"
    zero.write_text('{"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2}}')
    assert run("train", str(zero), "--model", "qwen3-0.6b", "--seq-len", "64", "-q")[0] == 0
    for command in ("train", "infer", "fit"):
        code, _, said = run(command, "qwen3-0.6b", "--model", "qwen3-0.6b", "--gpu", "4090")
        assert (code, "--model goes with a run file" in said) == (2, True)
    code, _, said = run("infer", "--command", "vllm serve qwen3-0.6b", "--model", "qwen3-0.6b")
    assert (code, "--model goes with a run file" in said) == (2, True)


@pytest.mark.slow
def test_the_script_of_a_file_is_written_where_it_trains(tmp_path, run):
    path, script = tmp_path / "run.sh", tmp_path / "made.py"
    line = "python any.py --model_name_or_path qwen3-0.6b --per_device_train_batch_size 1"
    path.write_text(f"{line} --max_length 64\n")
    for words in ((str(path),), ("train", str(path))):
        code, _, said = run(*words, "--save", str(script))
        assert code == 0 and "is written; start it with: python made.py" in said
        assert "python made.py" in script.read_text()
        script.unlink()
    path.write_text(f"{line}\n{line.replace('0.6b', '1.7b')}\n")
    code, _, said = run(str(path), "--save", str(script))
    assert code == 2 and "--save writes one script" in said
    path.write_text("vllm serve qwen3-0.6b\n")
    code, _, said = run(str(path), "--save", str(script))
    assert code == 2 and "--save writes the script of a training" in said
    for other in (("--fix",), ("--emit", "trl"), (str(path),)):
        code, _, said = run(str(path), *other, "--save", str(script))
        assert code == 2 and "--save" in said
    assert not script.exists()


@pytest.mark.slow
def test_what_a_file_asks_for_is_not_told_as_typed():
    text = "vllm serve qwen3-0.6b --dtype float16 --max-model-len 512"

    def told(**typed):
        derived = weighbridge.weigh(text, name="a.sh", **typed).runs[0].report.derived
        return [derived[name].split()[1] for name in ("dtype_from", "context_from")]

    assert told() == ["the", "the"]
    assert told(dtype="bfloat16") == ["you", "the"]
    assert told(context=256) == ["the", "you"]
    assert told(quantization="fp8-tensor")[0] == "you"


SECRETS = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
  - image: vllm/vllm-openai:v0.19.0
    args: [--model, qwen3-8b, --api-key, supersecret1, --max-model-len, "40960"]
    env:
    - name: HF_TOKEN
      value: supersecret2
    - name: VLLM_API_KEY
      value: supersecret3
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"], ["--details"], ["--fix"], ["--format", "html"]])
def test_no_secret_of_a_file_is_printed(tmp_path, run, form):
    path = tmp_path / "pod.yaml"
    path.write_text(SECRETS)
    _, told, warned = run(str(path), "--gpu-memory", "18GiB", *form)
    assert "supersecret" not in told + warned
    assert told or "no change was found" in warned
    script = "HF_TOKEN=supersecret1 vllm serve qwen3-8b --api-key=supersecret2"
    _, told, warned = run("-", stdin=script)
    assert "supersecret" not in told + warned


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("none.yaml", "no such file"),
        ("a/b", "no such file"),
        ("empty", "is a folder"),
        ("lod", "Did you mean 'load'"),
    ],
)
def test_a_word_that_is_no_command_and_no_run_file(tmp_path, monkeypatch, run, word, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, told = run(word)
    assert code == 2
    assert says in told


@pytest.mark.parametrize(
    "word",
    ["model.gguf", ".", "qwen3-8b", "Llama3.1:8B", "70B", "org/name", "hf://org/name", "nova-9b"],
)
def test_a_model_in_the_place_of_a_command_is_asked_whether_it_fits(
    tmp_path, monkeypatch, run, word
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    asked = []
    monkeypatch.setattr(
        "weighbridge.faces.api.fit", lambda model, **_: asked.append(model) or 1 / 0
    )
    run(word, "--gpu", "4090")
    assert asked == [word]


@pytest.mark.slow
def test_the_answer_of_a_model_alone_is_that_of_fit(run):
    typed = ("--gpu", "4090", "--for", "load", "-q")
    assert run("llama-3.1-8b", *typed) == run("fit", "llama-3.1-8b", *typed) == (0, "yes\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "fits", "why"),
    [
        ("", "no", "needs about"),
        ("tiled_mlp: true\n", "unknown", "it is counted without tiled_mlp, which takes less"),
        ("tiled_mlp: false\n", "no", "needs about"),
        ("experts_implementation: x\n", "no", "needs about"),
    ],
)
def test_no_is_not_sure_where_a_key_that_is_not_counted_takes_less(more, fits, why):
    (run,) = weighbridge.weigh(CONFIG + more, name="run.yaml", gpu_memory="8GiB").runs
    assert run.fits == fits
    assert run.report.verdict.reason.startswith(why)


DIVIDED = """\
model_name_or_path: llama-3.1-8b
dataset_name: a/b
max_length: 2048
bf16: true
per_device_train_batch_size: 1
gradient_checkpointing: true
output_dir: out
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpu", "shard", "fits"),
    [
        ("4090:2", None, "unknown"),
        ("4090:2", "ddp", "no"),
        ("4090", None, "no"),
    ],
)
def test_no_is_not_sure_where_another_file_says_how_the_model_is_divided(gpu, shard, fits):
    (run,) = weighbridge.weigh(DIVIDED, name="c.yaml", kind="trl", gpu=gpu, shard=shard).runs
    assert run.fits == fits
    assert ("--shard says it" in run.report.verdict.reason) == (fits == "unknown")


def test_experts_of_ktransformers_are_refused_by_name():
    line = "python -m sglang.launch_server --model-path deepseek-v3 --kt-method FP8 --tp-size 8"
    (run,) = weighbridge.weigh(line, name="run.sh").runs
    assert run.why.startswith("KTransformers keeps experts in RAM")


@pytest.mark.parametrize("details", [True, False])
def test_a_key_that_decides_two_settings_is_shown_once(details):
    line = "torchrun --nproc_per_node 2 t.py --model_name_or_path qwen3-0.6b --bf16"
    line += ' --per_device_train_batch_size 1 --fsdp "shard_grad_op auto_wrap"\n'
    found = weighbridge.weigh(line, name="t.sh", gpu="h100:2")
    decided = [one.setting for one in found.runs[0].run.understood if one.key == "fsdp"]
    assert decided == ["shard", "reshard_after_forward"]
    shown = draw(view(found, RenderOptions(details=details)), "human")
    told = shown[shown.index("Read from the file") :].partition("\n\n")[0]
    assert " ".join(told.split()).count("shard_grad_op auto_wrap") == 1


@pytest.mark.parametrize("command", ["train", "infer", "fit"])
def test_a_file_beside_a_model_is_told_how_it_is_weighed(command, tmp_path, capsys):
    path = tmp_path / "ranks.yaml"
    path.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\n")
    for words in (["llama-3.1-8b", str(path)], [str(path), "llama-3.1-8b"]):
        assert menu.run([command, *words, "--gpu", "4090"]) == 2
        told = capsys.readouterr().err
        assert f"is a run file, and no model: weighbridge {path} --model llama-3.1-8b" in told
        assert told.count("\n") == 1
    assert menu.run([command, str(path), str(path)]) == 2
    assert f": weighbridge {path} weighs it" in capsys.readouterr().err


KEYED = [each.name for each in kinds() if set(each.syntaxes) <= {"yaml", "json"}]


@all_of(("kind", "text"), product(KEYED, ["a b", "- 1", "7", "---\n"]))
def test_what_has_no_keys_is_of_no_kind_that_has(kind, text):
    with pytest.raises(WeighbridgeError) as raised:
        read(text, "run", kind)
    assert "and it has none" in str(raised.value) or "JSON" in str(raised.value)


@pytest.mark.slow
def test_a_file_that_ends_in_a_line_of_dashes_is_changed_as_any(run, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG + "---\n")
    code, diff, _ = run(str(path), "--gpu", "4060", "--fix")
    assert code in (0, 1) and "defect" not in diff
    code, plain, told = run(str(path), "--gpu", "4090")
    assert code == 0 and "config from the built-in catalogue" in " ".join(plain.split())
    assert "defect" not in plain + told


def test_help_of_a_run_file_is_help(run, file):
    for typed in ((file, "--help"), ("FILE", "--help")):
        code, told, _ = run(*typed)
        assert code == 0
        assert told.startswith("Usage: weighbridge FILE [OPTIONS] FILE|-...")
        assert "--gpu" in told and "more settings: --help-all" in told
    assert "See `weighbridge FILE --help`" in run(file, "--nosuch")[2]


@pytest.mark.slow
def test_of_one_file_so_many_runs_are_weighed(monkeypatch):
    monkeypatch.setattr(weighing, "MOST_RUNS", 2)
    found = weighbridge.weigh("---\n".join([CONFIG] * 3), gpu="4090")
    assert [run.report is None for run in found.runs] == [False, False, True]
    assert found.runs[2].why.startswith("of one file 24 runs are weighed")
    assert found.fits == "unknown"
