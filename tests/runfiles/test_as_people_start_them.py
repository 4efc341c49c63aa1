"""Files and lines as people have them: variables, functions, mounts, configs around a command, and
Python that serves. Kinds found in public repositories and issues of 2025 and 2026."""

import json

import pytest

import weighbridge
from weighbridge.base.wording import unsecret
from weighbridge.engines.launch import parse
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.cards import card
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.training import arrays

DOCKER = (
    "docker run --gpus all -v {there}:{inside} -p 6093:20020 vllm/vllm-openai:v0.22.0 "
    "--model {model} --max-model-len 4096\n"
)


def weighed(text: str, name: str, **settings):
    (run,) = weighbridge.weigh(text, name=name, offline=True, **settings).runs
    return run


# ---- numbers are no secrets


@pytest.mark.parametrize("said", ["--max-num-batched-tokens=8192", "MAX_TOKENS=8192", "token=7"])
def test_a_short_number_is_a_count_and_no_secret(said):
    assert unsecret(said) == said


@pytest.mark.parametrize("said", ["?token=123456789012", "token=8192abc", "MY_TOKEN=hf8192-x1"])
def test_what_is_more_than_a_short_number_stays_hidden(said):
    assert "***" in unsecret(said)


def test_a_variable_whose_name_has_tokens_in_it_is_read():
    text = "export MAX_TOKENS=8192\nllama-server -m models/Qwen3-8B-Q4_K_M.gguf -c $MAX_TOKENS\n"
    (run,) = read(text, "a.sh").runs
    assert parse(run.command).settings["context"] == 8192


# ---- what is mounted


@pytest.mark.parametrize("there", ["/data/Qwen3-8B", "/data/Qwen3-8B/"])
def test_a_folder_that_docker_mounts_names_the_model_by_every_door(there):
    line = DOCKER.format(there=there, inside="/model", model="/model")
    (run,) = read(line, "a.sh").runs
    assert run.model == "Qwen3-8B"
    assert parse(line).mounts == {"/model": there}
    named = weighbridge.infer("qwen3-8b", engine="vllm", engine_version="0.22.0", context=4096)
    assert weighed(line, "a.sh").report.model.parameters == named.model.parameters


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compose", "k8s"])
@pytest.mark.parametrize(("inside", "model"), [("/srv/w", "/srv/w/Qwen3-8B"), ("/model", "/model")])
def test_a_new_file_keeps_mounts_and_ports(kind, inside, model, tmp_path):
    there = "/srv/w" if inside == "/srv/w" else "/srv/w/Qwen3-8B"
    path = tmp_path / "a.sh"
    path.write_text(DOCKER.format(there=there, inside=inside, model=model))
    text = str(weighbridge.emit(None, kind, file=path, offline=True))
    assert model in text
    assert there in text
    assert ("6093:20020" in text) is (kind == "compose")
    assert read(text, "a.yaml").runs[0].model == "Qwen3-8B"


def test_a_folder_of_the_machine_that_a_pod_is_given_names_the_model():
    manifest = """\
apiVersion: v1
kind: Pod
spec:
  containers:
  - image: vllm/vllm-openai:v0.22.0
    args: [--model, /model]
    volumeMounts:
    - {name: folder, mountPath: /model}
  volumes:
  - name: folder
    hostPath:
      path: /data/Qwen3-8B
"""
    (run,) = read(manifest, "a.yaml").runs
    assert run.model == "Qwen3-8B"


# ---- shells


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("serve org/a 8192", "vllm serve org/a --max-model-len 8192"),
        ('serve "org/a"', "vllm serve org/a --max-model-len 4096"),
    ],
)
def test_a_function_is_its_body_where_it_is_called(call, said):
    script = f'serve() {{\n  vllm serve "$1" --max-model-len ${{2:-4096}}\n}}\n{call}\n'
    text = arrays.called(script)
    assert said in text.replace('"', "")
    assert text.count("\n") >= script.count("\n") - 1
    (run,) = read(script, "a.sh").runs
    assert run.model == "org/a"


def test_a_value_that_an_undecided_branch_sets_opens_the_verdict():
    script = (
        'if [ "$X" -gt 7 ]; then\n  LEN=4096\nelse\n  LEN=2048\nfi\n'
        "vllm serve Qwen/Qwen3-8B --max-model-len $LEN\n"
    )
    (run,) = read(script, "a.sh").runs
    assert any(u.key == "LEN" and u.lowers and u.raises for u in run.unread)
    plain = "LEN=4096\nvllm serve Qwen/Qwen3-8B --max-model-len $LEN\n"
    assert not read(plain, "a.sh").runs[0].unread


@pytest.mark.slow
@pytest.mark.parametrize(
    "counted",
    [
        "$(nvidia-smi -L | wc -l)",
        "$(nvidia-smi --list-gpus | wc -l)",
        "$SKYPILOT_NUM_GPUS_PER_NODE",
    ],
)
def test_as_many_ranks_as_cards_are_those_that_are_typed(counted):
    line = f"vllm serve Qwen/Qwen3-14B --tensor-parallel-size {counted} --max-model-len 4096\n"
    run = weighed(line, "a.sh", gpu="3090:2")
    assert run.report.workload["tensor_parallel_size"] == 2
    assert weighed(line, "a.sh", gpu="3090:4").report.workload["tensor_parallel_size"] == 4


def test_a_program_whose_name_is_a_flags_value_is_not_started_again():
    line = (
        "swift sft --model Qwen/Qwen3-8B --train_type lora --max_length 512 --model_author swift\n"
    )
    (run,) = read(line, "a.sh").runs
    assert (run.refused, run.model) == ("", "Qwen/Qwen3-8B")


# ---- scripts that are not read


def test_sizes_of_a_script_that_is_not_read_open_the_verdict():
    line = "python sft.py --model_name Qwen/Qwen3-4B --batch_size 32 --lora_rank 32 --run mine\n"
    (run,) = read(line, "a.sh").runs
    assert (run.settings["method"], run.settings["lora_r"]) == ("lora", 32)
    (size,) = (u for u in run.unread if u.key == "batch_size")
    assert size.lowers
    assert size.raises
    assert not any(u.lowers for u in run.unread if u.key == "run")


def test_a_rank_beside_a_switch_that_is_off_trains_no_adapters():
    line = "python sft.py --model_name Qwen/Qwen3-4B --use_lora False --lora_r 32\n"
    (run,) = read(line, "a.sh").runs
    assert run.settings.get("method") != "lora"


# ---- configs of other programs


SKY = """\
envs:
  MODEL: Qwen/Qwen3-8B
resources:
  accelerators: L40S:2
run: |
  vllm serve $MODEL --max-model-len 8192 --tensor-parallel-size $SKYPILOT_NUM_GPUS_PER_NODE
"""
DSTACK = """\
type: service
env: [HF_TOKEN, MODEL=Qwen/Qwen3-8B]
commands:
  - pip install vllm
  - vllm serve $MODEL
    --max-model-len 8192
resources:
  gpu: L40S:2
"""


@pytest.mark.parametrize("config", [SKY, DSTACK])
def test_launch_lines_within_a_config_of_another_program_are_read(config):
    (run,) = read(config, "a.yaml").runs
    assert (run.model, run.settings["gpu"]) == ("Qwen/Qwen3-8B", "L40S:2")
    assert "--max-model-len 8192" in run.command


def test_a_config_without_launch_lines_is_still_refused():
    with pytest.raises(weighbridge.UsageError):
        read("a: b c\nd: [e f]\n", "a.yaml")


def test_a_service_of_a_compose_file_that_is_pasted_alone_is_read():
    text = (
        "my setup on 6 rtx6kpro GPUs\n```bash\n    command: >\n      /models/Qwen3-8B\n"
        "      --tensor-parallel-size 2\n      --max-model-len 8192\n```\n"
    )
    (run,) = read(text).runs
    assert "--max-model-len 8192" in run.command
    assert run.settings["gpu"].startswith("rtx6kpro")


def test_a_config_below_words_between_fences_is_read():
    text = (
        "OOM on 8 cards\n```text\nthe yaml:\nmodel_name_or_path: Qwen/Qwen3-8B\nstage: sft\n"
        "do_train: true\nfinetuning_type: lora\ncutoff_len: 512\ntemplate: qwen3\n"
        "per_device_train_batch_size: 1\n```\n"
    )
    (run,) = read(text).runs
    assert (run.task, run.settings["seq_len"]) == ("train", 512)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("GPU type: NVIDIA A100-SXM4-80GB\n- GPU number: 8\n", "A100 80GB:8"),
        ("on 4x B70, out of memory", "B70:4"),
        ("8 x RTX 6000 Pro, out of memory", "RTX 6000 Pro:8"),
    ],
)
def test_cards_as_programs_and_people_write_them(said, value):
    document = Document(syntax="text", text=said, data=said, name="x", places={})
    assert card(document).value == value


# ---- logs and lines


def test_a_log_of_llama_cpp_that_says_the_file_it_loads_is_a_run():
    log = (
        "0.1 I srv load_model: loading model '/d/Qwen3-8B-UD-Q4_K_XL.gguf'\n"
        "0.2 W llama_context: n_ctx_seq (32768) < n_ctx_train (40960)\n"
    )
    (run,) = read(log).runs
    assert (run.settings["context"], run.settings["quantization"]) == (32768, "Q4_K_M")


def test_a_line_that_ends_with_a_colon_is_prose():
    text = "it is out of memory. vllm serve command:\n```\nvllm serve Qwen/Qwen3-8B\n```\n"
    assert [run.model for run in read(text).runs] == ["Qwen/Qwen3-8B"]


def test_a_unit_of_systemd_starts_what_stands_behind_its_key():
    unit = "[Service]\nEnvironment=A=1\nExecStart=/opt/llama-server -m /m/Qwen3-8B-Q4_K_M.gguf -c 512\n"
    (run,) = read(unit, "a.service").runs
    assert run.model == "Qwen3-8B-Q4_K_M.gguf"


def test_variables_with_defaults_are_put_in_before_a_line_of_a_dockerfile_is_split():
    text = (
        "FROM vllm/vllm-openai:v0.22.0\nENTRYPOINT python3 -m vllm.entrypoints.openai.api_server "
        '--model ${MODEL:-Qwen/Qwen3-8B} ${REVISION:+--revision "$REVISION"}\n'
    )
    (run,) = read(text, "Dockerfile").runs
    assert (run.refused, run.model) == ("", "Qwen/Qwen3-8B")


# ---- files of another machine


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag", ["-md /x/nobody-draft-Q8_0.gguf", "--mmproj mmproj-model-f16.gguf"]
)
def test_a_drafter_or_projector_that_is_not_here_is_not_counted_by_any_door(flag):
    line = f"llama-server -m qwen3-8b-Q4_K_M.gguf -c 4096 {flag}"
    reports = (
        weighbridge.infer(command=line, gpu="4090", offline=True),
        weighed(line, "a.sh", gpu="4090").report,
    )
    for report in reports:
        assert report.verdict.fits == "unknown"
        assert report.derived["not_counted"]


def test_a_projector_that_is_typed_and_not_there_is_an_error():
    with pytest.raises(weighbridge.NotFoundError):
        weighbridge.infer("qwen2.5-vl-7b", engine="llama.cpp", mmproj="/typo.gguf", offline=True)


@pytest.mark.parametrize("model", ["DeepSeek-V3", "DeepSeek-R1"])
def test_files_of_a_model_that_is_published_packed_have_their_own_format(model):
    line = f"llama-server -hf unsloth/{model}-GGUF:Q4_K_M -c 4096"
    by_line = weighbridge.infer(command=line, offline=True)
    by_name = weighbridge.infer(f"unsloth/{model}-GGUF:Q4_K_M", engine="llama.cpp", offline=True)
    assert by_line.workload["quantization"] == by_name.workload["quantization"] == "Q4_K_M"


# ---- Python


VLLM = """\
import argparse
from vllm import LLM
p = argparse.ArgumentParser()
p.add_argument("--model", default="Qwen/Qwen3-14B")
p.add_argument("--length", type=int)
a = p.parse_args()
llm = LLM(model=a.model, max_model_len={length}, enforce_eager=True, {more})
"""


def test_an_engine_that_python_makes_is_the_line_that_serves_the_same():
    script = VLLM.format(length=8192, more="tensor_parallel_size=torch.cuda.device_count()")
    (run,) = read(script, "a.py").runs
    assert run.model == "Qwen/Qwen3-14B"
    assert "--max-model-len 8192" in run.command
    assert "--enforce-eager" in run.command
    assert not run.unread


def test_an_argument_that_is_computed_opens_the_verdict():
    (run,) = read(VLLM.format(length="a.length", more=""), "a.py").runs
    (left,) = run.unread
    assert (left.key, left.lowers, left.raises) == ("max_model_len", True, True)


GENERATES = """\
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
name = "Qwen/Qwen3-8B"
packed = BitsAndBytesConfig(load_in_4bit=True)
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, quantization_config=packed, device_map="auto")
model.generate(**tokenizer("x"), max_new_tokens=64)
"""


@pytest.mark.slow
def test_a_script_that_generates_is_the_line_of_python_with_its_config():
    by_file = weighed(GENERATES, "a.py").report
    by_line = weighbridge.infer(command=GENERATES, offline=True)
    assert by_file.workload["quantization"] == by_line.workload["quantization"] == "fp4"
    assert by_file.peak == by_line.peak


@pytest.mark.parametrize("word", ["quantization_config=config", "torch_dtype=dtype"])
def test_a_value_that_is_not_read_opens_the_verdict(word):
    line = f'AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", {word})'
    assert [stop.answer for stop in parse(line).stops] == ["either"]


def test_yolo_by_python_is_its_line():
    script = (
        'from ultralytics import YOLO\nm = YOLO("yolo11n.pt")\n'
        'm.train(data="a.yaml", imgsz=640, batch=64, device=0)\n'
    )
    (by_python,) = read(script, "a.py").runs
    (by_line,) = read(
        "yolo train model=yolo11n.pt data=a.yaml imgsz=640 batch=64 device=0\n", "a.sh"
    ).runs
    assert (by_python.model, dict(by_python.settings)) == (by_line.model, dict(by_line.settings))


def test_cells_of_a_notebook_that_serve_are_read():
    source = VLLM.format(length=4096, more="").splitlines(keepends=True)
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": []}
    book = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    (run,) = read(book, "a.ipynb").runs
    assert run.model == "Qwen/Qwen3-14B"
