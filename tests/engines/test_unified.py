"""Servers on chips that share the system's memory: published figures of GB10, and by hand."""

from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB
from weighbridge.engines.servers import device_support
from weighbridge.engines.vllm import hardware, serving
from weighbridge.machines.accelerators.budget import budget

QWEN38 = (
    "vllm serve qwen3.8-27b --trust-remote-code --no-enable-prefix-caching --max-model-len 786432 "
    '--gpu-memory-utilization 0.92 --hf-overrides \'{"text_config": {"rope_parameters": '
    '{"mrope_interleaved": true, "mrope_section": [11, 11, 10], "rope_type": "yarn", '
    '"rope_theta": 10000000, "partial_rotary_factor": 0.25, "factor": 3.0, '
    '"original_max_position_embeddings": 262144}}}\''
)
# Logs of vLLM on a GB10 (public logs 61222544093, 68855405830, 68927088569): release, command, GiB
# for blocks. Before processes counted they were 1.1 to 4.6 GiB less than ours
LOGS = [
    ("0.27.1", "vllm serve qwen3-0.6b --gpu-memory-utilization 0.6", 69.40),
    (
        "0.28.0",
        "vllm serve qwen2.5-3b --max-model-len 8192 --gpu-memory-utilization 0.85 --max-num-seqs 4",
        93.75,
    ),
    ("0.27.1", QWEN38, 50.29),
]


@pytest.mark.slow
@pytest.mark.parametrize(("release", "command", "gib"), LOGS)
def test_the_pool_of_a_spark_is_that_of_its_log(release, command, gib):
    facts = weighbridge.infer(command=command, gpu="gb10", engine_version=release).derived
    low, expected, high = facts["available_kv_cache_interval"]
    assert low <= gib * GIB <= high
    assert expected == pytest.approx(gib * GIB, rel=0.07)


@pytest.mark.slow
def test_sglangs_tokens_on_a_spark_are_those_of_its_log():
    """Public log 57759592298: SGLang 0.5.15, 1.38 GiB of graphs."""
    command = (
        "python -m sglang.launch_server --model-path qwen3.8-27b --mem-fraction-static 0.80 "
        "--max-running-requests 32 --context-length 2048 --chunked-prefill-size 8192 "
        "--disable-radix-cache"
    )
    report = weighbridge.infer(command=command, gpu="gb10", engine_version="0.5.15")
    assert report.derived["max_total_num_tokens"] == pytest.approx(535_124, rel=0.03)
    graphs = [c.bytes for c in report.devices[0].phases[-1].components if c.name == "cuda_graphs"]
    assert graphs[0].low <= 1.38 * GIB <= graphs[0].high


@pytest.mark.slow
def test_a_launch_leaves_room_for_its_own_processes():
    """vLLM's default is more than a GB10 surely has; the line asks for less, and it fits."""
    report = weighbridge.infer("qwen3-8b", engine="vllm", gpu="gb10")
    share = report.workload["gpu_memory_utilization"]
    assert 0.7 < share < 0.85
    assert f"--gpu-memory-utilization {share}" in report.derived["launch"]
    assert report.verdict.fits == report.verdict.host.fits == "yes"
    assert report.verdict.host.shared
    sees = weighbridge.infer("qwen3.8-27b", engine="vllm", gpu="gb10")
    assert sees.workload["gpu_memory_utilization"] < share  # images are kept by the server


@pytest.mark.slow
def test_what_froze_is_no_yes_and_what_ran_is_no_no():
    """vllm issue 46307: 48 GiB of weights, a share of 0.7; others ran as much."""
    froze = weighbridge.infer(
        "gemma-4-26b-a4b", engine="vllm", gpu="gb10", gpu_memory_utilization=0.70
    ).verdict
    assert froze.fits == "unknown"
    assert "the pages of its files" in froze.reason
    ran = weighbridge.infer(command=QWEN38, gpu="gb10", engine_version="0.27.1").verdict
    assert ran.fits == "unknown"


@pytest.mark.slow
def test_the_states_of_a_training_do_not_fit_beside_the_device():
    """Saving passes the host: without --ram, by the name of the chip."""
    found = weighbridge.prepare("qwen3-32b").train(gpu="gb10", remedies=False).verdict
    assert (found.fits, found.host.fits, found.host.shared) == ("no", "no", True)


def test_processes_are_counted_where_free_memory_is_the_systems():
    for chip in ((8, 7), (11, 0), (12, 1)):
        assert device_support.host_processes(chip) == device_support.PROCESSES
        assert device_support.host_of_graphs(chip) == device_support.CAPTURED
    for other in (None, (9, 0), (12, 0)):
        assert (
            device_support.host_processes(other)
            == device_support.host_of_graphs(other)
            == exactly(0)
        )
    assert device_support.PROCESSES.low <= 1.1 * GIB and device_support.PROCESSES.high >= 4.6 * GIB
    assert device_support.expected_graphs(Bytes(1, 100, 200)) == Bytes(1, 150, 400)


def test_a_share_is_bound_by_a_pool_alone():
    spark, card = budget("gb10", None, None), budget("4090", None, None)
    towers = SimpleNamespace(body=SimpleNamespace(towers=()))
    standing = SimpleNamespace(processes=device_support.PROCESSES, subject=towers)
    reserve = SimpleNamespace(standing=standing)
    assert serving.beside_processes(reserve, card) > 1 << 60
    assert serving.beside_processes(reserve, spark) == spark.pool.low - 2 * GIB
    standing.processes = exactly(0)  # of ROCm: workers are beside the device
    assert serving.beside_processes(reserve, spark) == spark.pool.low - 6 * GIB
    towers.body.towers = ("vision",)
    assert serving.beside_processes(reserve, spark) == spark.pool.low - 10 * GIB
    assert hardware.shares_memory(spark) and not hardware.shares_memory(card)
    assert not hardware.shares_memory(None)
