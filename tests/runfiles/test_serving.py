"""Serving files: what stands around a launch line, and the line as if it were typed."""

import json

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.paths import model_of, packed
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.serving.lines import launch_lines

COMPOSE = """\
services:
  vllm:
    image: vllm/vllm-openai:v0.19.0
    volumes: ["/data/models/Qwen3-8B:/model:ro"]
    environment: [CUDA_VISIBLE_DEVICES=0, HF_TOKEN=secret]
    command: >
      --model /model --max-model-len ${LEN:-8192}
      --gpu-memory-utilization 0.9
  db:
    image: postgres
"""


@all_of(
    ("named", "mounts", "model"),
    [
        ("org/name", {}, "org/name"),
        ("qwen3:8b", {}, "qwen3:8b"),
        ("/model", {"/model": "/data/models/Qwen3-8B"}, "Qwen3-8B"),
        ("/model/sub", {"/model": "/data/Qwen"}, "Qwen/sub"),
        ("/models/org/name", {}, "org/name"),
        ("/models/vllm/name", {}, "name"),
        ("./name", {}, "name"),
        ("/models", {}, ""),
        ("/data/$MODEL", {}, ""),
        ("$MODEL", {}, ""),
        ("/x/models--org--name/snapshots/abc", {}, "org/name"),
        ("/x/models--org--name/snapshots/abc/a.gguf", {}, "org/name/a.gguf"),
        ("/x/y/org/name/a.gguf", {}, "org/name/a.gguf"),
        ("org/name/Qwen3-8B-Q4_K_M.gguf", {}, "org/name/Qwen3-8B-Q4_K_M.gguf"),
        ("/models/org/Qwen3-8B-GGUF/Qwen3-8B-UD-Q4_K_XL.gguf", {}, "org/Qwen3-8B-GGUF:UD-Q4_K_XL"),
        ("/models/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf", {}, "Qwen3-8B-Q4_K_M.gguf"),
        ("models/Qwen3-8B-Q4_K_M.gguf", {}, "Qwen3-8B-Q4_K_M.gguf"),
        ("/ai/files/Qwen3-8B-Q4_K_M.gguf", {}, "Qwen3-8B-Q4_K_M.gguf"),
        ("/m/qwen3-8b-q4_k_m-00001-of-00002.gguf", {}, "qwen3-8b-q4_k_m.gguf"),
        ("/home/me/.cache/Qwen3-8B-Q4_K_M.gguf", {}, "Qwen3-8B-Q4_K_M.gguf"),
        ("C:/models/Qwen3-8B-Q8_0.gguf", {}, "Qwen3-8B-Q8_0.gguf"),
        ("C:\\models\\Qwen3-8B-Q8_0.gguf", {}, "Qwen3-8B-Q8_0.gguf"),
        ("/.cache/llama.cpp/org_X-8B-GGUF_X-8B-Q4_K_M.gguf", {}, "org/X-8B-GGUF:Q4_K_M"),
        ("/m/org/Qwen3-8B-GGUF/Qwen3-8B-Q8_0_MTP.gguf", {}, "org/Qwen3-8B-GGUF:Q8_0_MTP"),
        ("/models/$FILE.gguf", {}, ""),
    ],
)
def test_a_path_is_the_model_that_it_names(named, mounts, model):
    assert model_of(named, mounts) == model


def test_a_compose_file_is_the_line_that_it_launches():
    (found,) = read(COMPOSE, "compose.yaml").runs
    assert found.name == "vllm"
    assert found.model == "Qwen3-8B"
    assert "secret" not in found.command
    launch = parse(found.command)
    assert launch.settings == {
        "context": 8192,
        "gpu_memory_utilization": 0.9,
        "engine_version": "0.19.0",
    }
    answered = weighbridge.weigh(COMPOSE, name="compose.yaml", gpu="4090").runs[0].report
    line = "docker run vllm/vllm-openai:v0.19.0 --model Qwen3-8B --max-model-len 8192 "
    typed = weighbridge.infer(command=f"{line} --gpu-memory-utilization 0.9", gpu="4090")
    assert answered.peak == typed.peak
    assert answered.verdict.fits == typed.verdict.fits


def of_own_image(words, image="me/serve"):
    text = f"services:\n  llm:\n    image: {image}\n    command: {words}\n"
    return read(text, "compose.yaml").runs[0].command


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--model org/name --max-model-len 8192", "vllm serve"),
        ("./start.sh --model org/name --max-model-len 8192", "vllm serve"),
        ("--model-path org/name --mem-fraction-static 0.8", "python3 -m sglang.launch_server"),
        ("-m name-Q4_K_M.gguf -c 8192 -ngl 99", "llama-server"),
    ],
)
def test_an_image_of_ones_own_is_the_engine_whose_flags_it_is_given(words, line):
    assert of_own_image(words) == f"{line} {words.removeprefix('./start.sh ')}"


@all_of(
    "words",
    [
        "--model org/name --port 80",  # of several engines
        "--model org/name --max-model-len 8192 --odd 1",
        "--model org/name",
        "-m app -c 4",  # no model
        "python -m org/app -c 4",
        "''",
    ],
)
def test_words_that_are_of_no_engine_or_of_several_start_nothing(words):
    with pytest.raises(UsageError, match="starts nothing"):
        of_own_image(words)


@all_of(
    ("image", "release"),
    [
        ("me/vllm-custom:2.1", None),  # its owner's release
        ("me/sglang-team:0.3", None),
        ("mirror.example/vllm:v0.11.0", "0.11.0"),
        ("vllm/vllm-openai:v0.11.0", "0.11.0"),
        ("lmsysorg/sglang:v0.5.3-cu126", "0.5.3"),
    ],
)
def test_a_tag_is_a_release_where_the_image_has_a_published_name(image, release):
    program = "python3 -m sglang.launch_server --model-path" if "sglang" in image else "vllm serve"
    text = f"services:\n  llm:\n    image: {image}\n    command: {program} org/name\n"
    (run,) = read(text, "compose.yaml").runs
    assert run.settings.get("engine_version") == release


def test_another_server_is_not_read_by_its_flags():
    with pytest.raises(UsageError, match="starts nothing"):
        of_own_image("--model org/name --max-model-len 8192", "me/tritonserver")


POD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: serve}}
spec:
  template:
    spec:
      nodeSelector: {{{label}: {card}}}
      initContainers:
      - {{image: vllm/vllm-openai, args: [--model, org/other]}}
      containers:
      - name: vllm
        image: {image}
        {words}
        env: [{{name: MODEL, value: org/name}}]
        resources: {{limits: {{nvidia.com/gpu: "2"}}}}
"""


def pod(**given):
    usual = {
        "label": "cloud.google.com/gke-accelerator",
        "card": "nvidia-l4",
        "image": "vllm/vllm-openai:v0.19.0",
        "words": 'args: [--model, $(MODEL), -tp, "2"]',
    }
    return POD.format(**{**usual, **given})


@pytest.mark.parametrize(
    ("given", "gpu"),
    [
        ({}, "nvidia-l4:2"),
        ({"card": "nvidia-h100-80gb"}, "nvidia-h100-80gb:2"),
        (
            {"label": "nvidia.com/gpu.product", "card": "NVIDIA-A100-SXM4-80GB"},
            "NVIDIA-A100-SXM4-80GB:2",
        ),
        ({"card": "no-such-card"}, None),
    ],
)
def test_a_manifest_names_its_cards(given, gpu):
    (found,) = read(pod(**given), "pod.yaml").runs
    assert found.model == "org/name"
    assert found.settings.get("gpu") == gpu


@pytest.mark.parametrize(
    "words",
    [
        "command: [vllm, serve, $(MODEL), -tp, '2']",
        "command: [sh, -c]\n        args: ['ulimit -n 9; vllm serve $MODEL -tp 2']",
        "command: [/bin/bash, -lc, --, 'python3 -m dynamo.vllm --model $MODEL -tp 2']",
    ],
)
def test_a_container_is_read_however_its_program_is_started(words):
    (found,) = read(pod(words=words, image="private/vllm:1"), "pod.yaml").runs
    assert found.model == "org/name"
    assert parse(found.command).settings["tensor_parallel_size"] == 2


def test_a_manifest_that_serves_nothing_says_so():
    with pytest.raises(UsageError, match="starts nothing that has a size"):
        read(pod(image="redis", words="args: [--port, '1']"), "pod.yaml")


def test_a_model_that_a_variable_names_is_asked_for():
    text = 'python -m sglang.launch_server --model-path "$MODEL" --tp-size 1 --context-length 4096'
    (found,) = read(text, "serve.sh").runs
    assert found.model == ""
    (lacking,) = weighbridge.weigh(text, name="serve.sh").runs
    assert "--model" in lacking.why
    (named,) = weighbridge.weigh(text, name="serve.sh", model="qwen3-8b", gpu="4090").runs
    typed = weighbridge.infer(command=text.replace("$MODEL", "qwen3-8b"), gpu="4090")
    assert named.report.peak == typed.peak


def test_several_servers_of_a_script_are_several_runs():
    text = "export A=1\nvllm serve org/one -tp 2 &\nllama-server -m /m/org/two/x.gguf -c 512\n"
    assert len(list(launch_lines(text))) == 2
    assert [run.model for run in read(text, "both.sh").runs] == ["org/one", "org/two/x.gguf"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "model: org/name\nmax-model-len: 8192\nenable-prefix-caching: true\nport: 80\n",
            "vllm serve org/name --max-model-len 8192 --enable-prefix-caching --port 80",
        ),
        (
            "model-path: org/name\ntp-size: 2\nmem_fraction_static: 0.8\n",
            "python -m sglang.launch_server --model-path org/name --tp-size 2 --mem-fraction-static 0.8",
        ),
    ],
)
def test_a_config_is_the_flags_that_its_keys_are(text, line):
    (found,) = read(text, "config.yaml").runs
    assert found.command == line


def test_macros_are_filled_and_comments_are_not_commands():
    text = """\
macros: {base: "llama-server --port ${PORT}", size: 512}
models:
  one:
    cmd: |
      # ${base} is above
      ${base}
      -hf org/name:Q4_0 -c ${size}
  two: {cmd: ./own.sh}
"""
    one, two = read(text, "swap.yaml").runs
    assert one.command == "llama-server --port 8080 -hf org/name:Q4_0 -c 512"
    assert "launches no engine" in two.refused


def test_a_modelfile_is_a_run_of_ollama():
    text = 'FROM qwen3:8b\nSYSTEM """\nFROM other\n"""\nPARAMETER num_ctx 8192\nADAPTER ./a\n'
    (found,) = read(text, "Modelfile").runs
    assert found.model == "qwen3:8b"
    assert found.settings == {"engine": "ollama", "context": 8192}
    context = found.understood[-1]
    assert text[context.start : context.end] == "8192"
    assert [one.key for one in found.unread] == ["ADAPTER"]
    with pytest.raises(UsageError):
        read("FROM python:3.11\nRUN pip install x\n", "Dockerfile")


@pytest.mark.parametrize(
    ("name", "form"), [("Qwen3-32B-AWQ", "awq-4bit-g128"), ("Qwen3-32B", None)]
)
def test_a_folder_that_is_called_like_a_packed_checkpoint_is_one(name, form):
    report = weighbridge.infer(command=f"vllm serve {name} -tp 2 --dtype float16")
    assert report.workload["quantization"] == form


COMPOSED = """\
services:
  a:
    image: vllm/vllm-openai:v0.19.0
    command: --model qwen3-8b
    deploy: {replicas: %d}
"""
DEPLOYED = """\
apiVersion: apps/v1
kind: Deployment
spec:
  replicas: %d
  template: {spec: {containers: [{name: a, image: "vllm/vllm-openai:v0.19.0", args: [--model, qwen3-8b]}]}}
"""
STACKED = """\
servingEngineSpec:
  modelSpec: [{name: a, modelURL: qwen3-8b, replicaCount: %d}]
"""


@pytest.mark.parametrize("text", [COMPOSED, DEPLOYED, STACKED])
def test_several_of_one_container_are_told(text):
    (run,) = read(text % 3, "a.yaml").runs
    assert run.notes[-1] == f"{run.name}: 3 replicas are started; each takes what is said here"
    assert run.name
    (run,) = read(text % 1, "a.yaml").runs
    assert not any("are started" in note for note in run.notes)


def test_adapters_and_a_cache_in_memory_of_production_stack():
    """helm/templates/deployment-vllm-multi.yaml of vllm-project/production-stack."""
    text = """\
servingEngineSpec:
  modelSpec:
  - name: a
    modelURL: qwen3-8b
    enableLoRA: true
    vllmConfig: {maxLoras: 3}
    lmcacheConfig:
      enabled: %s
      cpuOffloadingBufferSize: "20"
"""
    (run,) = read(text % "true", "a.yaml").runs
    assert run.command == "vllm serve qwen3-8b --max-loras 3 --enable-lora"
    assert [(one.key, one.why) for one in run.unread] == [
        (
            "lmcacheConfig.cpuOffloadingBufferSize",
            "20 GB of caches in host memory are not counted",
        )
    ]
    (run,) = read(text % "false", "a.yaml").runs
    assert not run.unread
    sent = """\
      cpuOffloadingBufferSize: 0
      enableNixl: true
      nixlBufferSize: "1073741824"
      nixlBufferDevice: cuda
"""
    text = text.replace('      cpuOffloadingBufferSize: "20"\n', sent) % "true"
    (run,) = read(text, "a.yaml").runs
    assert [(one.key, one.why) for one in run.unread] == [
        ("lmcacheConfig.nixlBufferSize", "1.00 GiB of buffers on the card are not counted")
    ]


@all_of(
    ("image", "words", "release"),
    [
        ("vllm/vllm-openai:v0.10.2", "command: [vllm, serve, x/y]", "0.10.2"),
        ("vllm/vllm-openai:v0.10.2", "command: [sh, -c, 'vllm serve x/y']", "0.10.2"),
        ("vllm/vllm-openai:v0.10.2", "args: [--model, x/y]", "0.10.2"),
        (
            "lmsysorg/sglang:v0.5.3-cu126",
            "command: [python3, -m, sglang.launch_server, --model-path, x/y]",
            "0.5.3",
        ),
        ("vllm/vllm-openai:latest", "command: [vllm, serve, x/y]", None),
        ("lmcache/vllm-openai:v0.3.9", "command: [vllm, serve, x/y]", None),
        ("lmsysorg/sglang:v0.5.3", "command: [vllm, serve, x/y]", None),
        ("private/serving:v1.2", "command: [vllm, serve, x/y]", None),
    ],
)
def test_the_tag_of_an_image_is_the_release_whatever_starts_the_program(image, words, release):
    (found,) = read(pod(image=image, words=words), "pod.yaml").runs
    said = parse(found.command).settings.get("engine_version")
    assert (found.settings.get("engine_version") or said) == release


def test_the_tag_of_a_chart_is_the_release():
    text = "servingEngineSpec:\n  modelSpec:\n  - {name: a, modelURL: x/y, tag: v0.9.1}\n"
    (found,) = read(text, "values.yaml").runs
    assert found.settings["engine_version"] == "0.9.1"


@all_of(
    ("named", "form"),
    [
        ("/m/Mine-Q4_K_M.gguf", "Q4_K_M"),
        ("Mine-UD-Q4_K_XL.gguf", "Q4_K_M"),
        ("Mine.IQ3_XXS.gguf", "IQ3_XXS"),
        ("/models/Qwen2.5-32B-Instruct-AWQ", "awq"),
        ("Mine.gguf", ""),
        ("org/name", ""),
    ],
)
def test_a_name_tells_the_format_that_it_is_stored_in(named, form):
    assert packed(named) == form


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Mine-Q4_K_M.gguf", "Qwen3-8B-Q4_K_M.gguf"])
def test_another_name_for_a_model_keeps_the_format_of_its_path(name):
    line = f"llama-server -m /models/{name} -c 8192 -ngl 99"
    (found,) = weighbridge.weigh(line, name="run.sh", model="qwen3-8b").runs
    assert found.report.workload["quantization"] == "Q4_K_M"
    typed = weighbridge.weigh(line, name="run.sh", model="qwen3-8b", quantization="Q8_0").runs[0]
    assert typed.report.workload["quantization"] == "Q8_0"


KSERVE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
spec:
  predictor:
    model:
      modelFormat: {{name: huggingface}}
      args: [{args}]
"""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            "--model_name=q, --model_id=x/y, --max-model-len=4096",
            "--served-model-name=q --model=x/y",
        ),
        ("--model_id, x/y, --backend=vllm, --task, text_generation", "--model x/y"),
        ("--model_id=x/y, --return_token_type_ids, --max_length=4096", "--max-model-len=4096"),
        ("--model_id=x/y, --backend=huggingface", "--backend=huggingface"),
    ],
)
def test_kserve_s_own_flags_are_those_of_vllm(args, line):
    (found,) = read(KSERVE.format(args=args), "kserve.yaml").runs
    assert found.model == "x/y"
    assert line in found.command
    assert "task" not in found.command and "token_type" not in found.command


def test_a_parameter_that_ollama_refuses_is_told_with_its_line():
    text = "FROM qwen3:8b\nPARAMETER num_ctx abc\nPARAMETER frob 3\nPARAMETER seed 1\n"
    (run,) = read(text, "Modelfile").runs
    assert [(one.key, one.line) for one in run.unread] == [
        ("PARAMETER num_ctx", 2),
        ("PARAMETER frob", 3),
    ]


BETWEEN = """\
if [ "${FAST:-0}" = 1 ]; then
  exec vllm serve "$@"
fi
depth="${DEPTH:-2}"
case "${SPEC:-}" in off|no) depth=0 ;; esac
case "$depth" in ""|*[!0-9]*)
  echo "no number" >&2; exit 1 ;;
esac
MORE=()
if [ "$depth" -gt 0 ]; then MORE=(--max-num-seqs "$depth"); fi
if [ "$depth" -gt 0 ]; then
  MORE=(--max-num-seqs "$depth")
fi
exec vllm serve ${EAGER:+--enforce-eager} "$@" "${MORE[@]}"
vllm serve another/model
"""
ASKED = ["--model", "org/name", "--max-model-len", "4096", "--quantization", "fp8"]


def _compose(entry, command, dollar="$$"):
    service = {"image": "vllm/vllm-openai:v0.22.0", "entrypoint": entry, "command": command}
    return json.dumps({"services": {"one": service}}).replace("$", dollar)


def _pod(entry, command):
    container = {"name": "one", "image": "vllm/vllm-openai:v0.22.0", "command": entry}
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]}}
    container["args"] = command
    return json.dumps(pod)


@pytest.mark.parametrize("script", ['exec vllm serve "$@"', "umask 2; vllm serve $@", BETWEEN])
@pytest.mark.parametrize("made", [_compose, _pod])
@pytest.mark.parametrize("own_name", ["sh", "--"])
def test_a_shell_between_hands_on_what_it_is_given(script, made, own_name):
    """Every argument behind the shell's own name is the program's, as if it were typed."""
    (found,) = read(made(["/bin/bash", "-c", script, own_name], ASKED), "run.yaml").runs
    assert found.model == "org/name"
    settings = parse(found.command).settings
    assert (settings["context"], settings["quantization"]) == (4096, "fp8-tensor")
    assert "max_num_seqs" in parse(found.command).settings or script != BETWEEN
    assert not settings.get("enforce_eager")


def test_what_a_container_sets_decides_what_its_shell_does():
    pod = _pod(["sh", "-c", BETWEEN, "sh"], ASKED)
    told = json.loads(pod)
    told["spec"]["containers"][0]["env"] = [
        {"name": "SPEC", "value": "off"},
        {"name": "EAGER", "value": "1"},
    ]
    (found,) = read(json.dumps(told), "run.yaml").runs
    settings = parse(found.command).settings
    assert "max_num_seqs" not in settings
    assert settings["enforce_eager"]


@pytest.mark.parametrize("as_list", [True, False])
def test_a_worker_that_wraps_an_engine_is_the_engine(as_list):
    """Flags of a program are no flags of the engine, in whatever form it is started."""
    words = ["python3", "-m", "dynamo.vllm", *ASKED, "--dyn-tool-call-parser", "hermes"]
    entry = words if as_list else ["sh", "-c", " ".join(words)]
    (found,) = read(_pod(entry, []), "run.yaml").runs
    launch = parse(found.command)
    assert (launch.engine, launch.unknown) == ("vllm", ())
    assert launch.settings["context"] == 4096
