"""Parts of cards in Kubernetes: slices, bounded memory, cards that several programs share."""

import json

from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read

GKE, PRODUCT = "cloud.google.com/gke-accelerator", "nvidia.com/gpu.product"
PARTITION, SHARING = (
    f"cloud.google.com/gke-gpu-{name}" for name in ("partition-size", "sharing-strategy")
)
A100 = "NVIDIA-A100-SXM4-40GB"
ONE = {"nvidia.com/gpu": 1}


def manifest(labels, resources):
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.19.0",
        "args": ["--model", "Qwen/Qwen3-1.7B", "--max-model-len", "4096"],
        "resources": {"limits": resources},
    }
    spec = {"nodeSelector": labels, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "llm"}, "spec": spec}
    return json.dumps(pod, indent=1)


@all_of(
    ("labels", "resources", "gpu", "memory", "unread"),
    [
        ({PRODUCT: A100}, ONE, A100, None, []),
        ({GKE: "nvidia-tesla-a100", PARTITION: "1g.5gb"}, ONE, "nvidia-tesla-a100/1g.5gb", None, []),
        ({PRODUCT: A100}, {"nvidia.com/mig-3g.20gb": 1}, f"{A100}/3g.20gb", None, []),
        ({PRODUCT: f"{A100}-MIG-1g.5gb"}, ONE, f"{A100}-MIG-1g.5gb", None, []),
        ({}, {"nvidia.com/mig-3g.20gb": 1}, None, None, ["3g.20gb"]),
        ({PRODUCT: "NVIDIA-A10"}, {**ONE, "nvidia.com/gpumem": 3000}, "NVIDIA-A10", "3000MiB", []),
        ({PRODUCT: "NVIDIA-A10"}, {**ONE, "nvidia.com/gpucores": 30}, "NVIDIA-A10", None, []),
        ({PRODUCT: "NVIDIA-A10-SHARED"}, ONE, "NVIDIA-A10", None, [PRODUCT]),
        ({GKE: "nvidia-l4", SHARING: "time-sharing"}, ONE, "nvidia-l4", None, [SHARING]),
        ({PRODUCT: "NVIDIA-A10"}, {"nvidia.com/gpu.shared": 1}, "NVIDIA-A10", None, ["nvidia.com/gpu.shared"]),
        ({PRODUCT: "NVIDIA-A10"}, {"aliyun.com/gpu-mem": 4}, "NVIDIA-A10", None, ["aliyun.com/gpu-mem"]),
        ({GKE: "nvidia-l4", "gpu": "true", "node-type/gpu": "l4"}, ONE, "nvidia-l4", None, []),
        ({GKE: "nvidia-l4", "migration": "done"}, ONE, "nvidia-l4", None, []),
        ({GKE: "nvidia-l4", "nvidia.com/mig.config": "all-1g.5gb"}, ONE, "nvidia-l4", None, ["nvidia.com/mig.config"]),
    ],
)  # fmt: skip
def test_what_a_container_is_given_of_a_card(labels, resources, gpu, memory, unread):
    (run,) = read(manifest(labels, resources), "pod.yaml").runs
    assert (run.settings.get("gpu"), run.settings.get("gpu_memory")) == (gpu, memory)
    assert [one.key for one in run.unread] == unread
    assert all(one.raises and not one.lowers for one in run.unread)


@all_of(
    ("labels", "resources", "fits"),
    [
        ({PRODUCT: A100}, ONE, "yes"),
        ({PRODUCT: A100}, {"nvidia.com/mig-1g.5gb": 1}, "no"),
        ({PRODUCT: "NVIDIA-A10"}, {**ONE, "nvidia.com/gpumem": 3000}, "no"),
        ({PRODUCT: "NVIDIA-A10-SHARED"}, ONE, "unknown"),
        ({PRODUCT: "NVIDIA-A10"}, {**ONE, "nvidia.com/gpumem-percentage": 25}, "unknown"),
    ],
)
def test_a_part_is_judged_and_a_share_leaves_it_open(labels, resources, fits):
    assert weighbridge.weigh(manifest(labels, resources), name="pod.yaml").fits == fits


def test_a_chart_asks_for_a_slice():
    """production-stack's requestGPUType, beside the card of its nodes"""
    model = {"name": "m", "modelURL": "Qwen/Qwen3-1.7B", "requestGPU": 1}
    asked = {"requestGPUType": "nvidia.com/mig-1g.5gb", "nodeSelector": {PRODUCT: A100}}
    values = {"servingEngineSpec": {"modelSpec": [model | asked]}}
    (run,) = read(json.dumps(values), "values.yaml").runs
    assert run.settings["gpu"] == f"{A100}/1g.5gb"


def test_a_training_job_is_given_a_part_too():
    """HAMi's MiB, and a card that is shared by turns"""
    line = "torchrun --nproc-per-node 1 train.py --model_name_or_path Qwen/Qwen3-1.7B"
    resources = {"limits": {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000}}
    container = {"name": "t", "image": "i", "command": line.split(), "resources": resources}
    pod = {"containers": [container], "nodeSelector": {SHARING: "mps"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "t"}}
    text = json.dumps(job | {"spec": {"template": {"spec": pod}}})
    (run,) = read(text, "job.yaml").runs
    assert run.settings["gpu_memory"] == "3000MiB"
    assert SHARING in [one.key for one in run.unread]
