"""Host memory that a container may take: what a file says of it, and the verdict beside it."""

import json
import re

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.units import GIB, ceil_div, parse_size
from weighbridge.engines.launch import parse
from weighbridge.files.runfiles.document import Place
from weighbridge.files.runfiles.patching import patched
from weighbridge.files.runfiles.serving.lines import memory_limit

POD = """apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  containers:
  - name: vllm
    image: vllm/vllm-openai:v0.26.0
    args: [Qwen/Qwen2.5-7B-Instruct, --max-model-len, "4096"]
    resources:
      requests: {memory: 1Gi}
      limits:
        nvidia.com/gpu: 1
        memory: %s
"""
SERVICE = """services:
  vllm:
    image: vllm/vllm-openai:v0.26.0
    command: Qwen/Qwen2.5-7B-Instruct --max-model-len 4096
"""
DEPLOY = "    deploy:\n      resources:\n        limits:\n          memory: 96g\n"


@all_of(
    ("said", "binary", "nbytes"),
    [
        ("64Gi", False, 64 << 30),
        ("64G", False, 64 * 10**9),
        ("512Mi", False, 512 << 20),
        ("134217728", False, 134217728),
        (134217728, False, 134217728),
        ("1.5Gi", False, 3 << 29),
        ("96g", True, 96 << 30),
        ("96gb", True, 96 << 30),
        ("500m", True, 500 << 20),
        ("${LIMIT:-100g}", True, 100 << 30),
    ],
)
def test_quantities_as_each_program_takes_them(said, binary, nbytes):
    found = memory_limit(said, key="memory", place=Place(3), binary=binary)
    assert (found.nbytes, found.limit.setting, found.limit.line) == (nbytes, "ram", 3)


@pytest.mark.parametrize("said", [None, "", "$LIMIT", "{{ .Values.memory }}"])
def test_what_is_not_in_the_file_says_nothing(said):
    assert memory_limit(said, key="memory", place=Place(0), binary=False) is None


@all_of(
    ("said", "binary", "why"),
    [
        (
            "banana",
            False,
            "'banana' is no size of memory, and no limit is counted; write it as 64Gi",
        ),
        ("banana", True, "'banana' is no size of memory, and no limit is counted; write it as 64g"),
        (
            "500m",
            False,
            "'500m' is in thousandths of a byte, and no limit is counted; write it as 500Mi",
        ),
        ("0", False, "0 is no limit: the container may take what its machine has; --ram says how"),
        ("0g", True, "0g is no limit: "),
        ("-1Gi", False, "'-1Gi' is no size of memory"),
        ([], False, "'[]' is no size of memory"),
        ("9" * 400, False, "is no size of memory"),
    ],
)
def test_what_is_no_size_is_told(said, binary, why):
    found = memory_limit(said, key="memory", place=Place(3), binary=binary)
    assert (found.key, found.line) == ("memory", 3)
    assert why in found.why
    assert len(found.why) < 150


def weighed(text, name):
    (run,) = weighbridge.weigh(text, name=name, offline=True, gpu="l40s").runs
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "fits"), [("64Gi", "yes"), ("1Gi", "no")])
def test_a_pod_is_ended_behind_its_limit(limit, fits):
    run = weighed(POD % limit, "pod.yaml")
    assert run.fits == fits
    assert run.report.workload["ram"] is not None
    (taken,) = (u for u in run.run.understood if u.setting == "ram")
    assert (taken.key, taken.line) == ("resources.limits.memory", 13)


@pytest.mark.parametrize("said", ["banana", "500m", "0"])
def test_a_limit_of_a_pod_that_is_none_is_told_with_its_line(said):
    found = weighbridge.weigh(POD % said, name="pod.yaml", offline=True, gpu="l40s")
    assert found.runs[0].report.workload["ram"] is None
    (told,) = (line for line in found.warnings if "limits.memory" in line)
    assert told.startswith("pod.yaml:13: resources.limits.memory: ")


def test_a_request_is_no_limit():
    run = weighed((POD % "64Gi").replace("        memory: 64Gi\n", ""), "pod.yaml")
    assert run.report.workload["ram"] is None


@pytest.mark.parametrize(
    ("more", "key", "line"),
    [(DEPLOY, "deploy.resources.limits.memory", 8), ("    mem_limit: 96g\n", "mem_limit", 5)],
)
def test_a_service_of_compose_has_either_key(more, key, line):
    run = weighed(SERVICE + more, "compose.yaml")
    (taken,) = (u for u in run.run.understood if u.setting == "ram")
    assert (taken.key, taken.value, taken.line) == (key, "96g", line)
    assert weighed(SERVICE, "compose.yaml").report.workload["ram"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "written"), [(None, None), ("64GiB", "64Gi"), ("1500MiB", "1500Mi")]
)
def test_a_new_manifest_asks_for_the_host_memory_that_a_server_takes(typed, written):
    asked = {"engine": "vllm", "gpu": "4090", **({"ram": typed} if typed else {})}
    text = str(weighbridge.emit("qwen3-8b", "k8s", **asked))
    found = re.findall(r"memory: (\S+)", text)
    assert len(found) == 2 and found[0] == found[1]  # requests and limits
    report = weighbridge.infer("qwen3-8b", engine="vllm", gpu="4090")
    high = report.devices[-1].peak("driver").high
    assert found[0] == (written or f"{ceil_div(high, GIB)}Gi")
    (run,) = weighbridge.weigh(text, name="k8s.yaml", offline=True, gpu="4090").runs
    assert run.report.workload["ram"] is not None


def fixed(text, name, gpu="l40s"):
    found = weighbridge.weigh(text, name=name, offline=True, gpu=gpu)
    return patched(found)


@pytest.mark.slow
@pytest.mark.parametrize(("quote", "after"), [("", "Gi"), ('"', 'Gi"')])
def test_a_limit_that_alone_lacks_is_raised(quote, after):
    """To what the container is to be given; the file fits then, and is as it was besides."""
    text = POD % f"{quote}1Gi{quote}"
    patch = fixed(text, "pod.yaml")
    (changed,) = set(patch.after.splitlines()) - set(text.splitlines())
    report = weighed(text, "pod.yaml").report
    size = report.verdict.host.container // GIB
    assert changed == f"        memory: {quote}{size}{after}"
    assert weighed(patch.after, "pod.yaml").fits == "yes"
    (remedy,) = patch.remedies
    assert remedy.cost.endswith(f"may take {size}Gi of its machine's memory, not 1Gi")


@pytest.mark.slow
def test_a_limit_of_compose_is_raised_in_its_own_words():
    patch = fixed(SERVICE + "    mem_limit: 1g\n", "compose.yaml")
    assert re.search(r"mem_limit: \d+g\n", patch.after)
    assert weighed(patch.after, "compose.yaml").fits == "yes"


@pytest.mark.slow
def test_a_limit_is_not_raised_for_a_card_that_is_too_small():
    assert fixed(POD % "1Gi", "pod.yaml", gpu="rtx-3050") is None


@pytest.mark.slow
def test_a_change_within_the_limit_goes_before_a_larger_one():
    text = f"{SERVICE.rstrip()} --kv-offloading-size 200\n{DEPLOY}"
    patch = fixed(text, "compose.yaml", gpu="h100")
    assert "memory: 96g" in patch.after
    assert "kv_offloading_size" in patch.remedies[0].change


@pytest.mark.parametrize("flag", ["--memory 6g", "--memory=6144m", "-m 6G", "-m=6291456k"])
def test_the_limit_of_docker_run_is_that_of_a_compose_file(flag):
    """The same container has the same host memory by its file, its line and its command."""
    image, words = "vllm/vllm-openai:v0.22.0", "--model qwen3-8b --max-model-len 4096"
    service = {"image": image, "command": words, "mem_limit": "6g"}
    compose = json.dumps({"services": {"one": service}})
    line = f"docker run --gpus all {flag} {image} {words}"
    by_file = weighbridge.weigh(compose, name="c.yaml", gpu="4090").runs[0].report
    by_line = weighbridge.weigh(line, name="d.sh", gpu="4090").runs[0].report
    by_command = weighbridge.infer(command=line, gpu="4090")
    assert by_file.verdict.host == by_line.verdict.host == by_command.verdict.host
    assert parse_size(by_line.workload["ram"]) == 6 << 30


def test_what_docker_does_not_limit_is_no_limit():
    for flag in ("", "--memory 0", "--memory-swap 8g", "--memory $MEM"):
        line = f"docker run {flag} vllm/vllm-openai:v0.22.0 --model qwen3-8b"
        assert "ram" not in parse(line).settings
