"""Host memory of vLLM: what sleeps, what waits, and what is offloaded, each in pinned blocks."""

import pytest

import weighbridge
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.launch import parse
from weighbridge.engines.vllm import weights
from weighbridge.machines.allocator.filling import filled


def machine(model="llama-3.2-1b", gpu="h100", **asked):
    report = weighbridge.infer(model, engine="vllm", gpu=gpu, **asked)
    return next(d for d in report.devices if d.kind == "host")


def held(device, phase, detail):
    components = next(p for p in device.phases if p.name == phase).components
    return next((tuple(c.bytes) for c in components if c.detail == detail), None)


def test_weights_that_sleep_are_pinned_in_powers_of_two():
    """GLM-4.5-Air on four GB200: "offloads ~78 GB of model weights to CPU RAM per engine" where a
    rank's weights are 53.5 GB, and the node held 841 GB at level 1 and about 520 at level 2
    (vllm-project/vime pull 191, June 2026). By hand: experts of a layer are 704 and 352 MiB in
    1,024 and 512."""
    asked = {"model": "glm-4.5-air", "gpu": "gb200:4", "engine_version": "0.22"}
    low, expected, high = held(machine(enable_sleep_mode=True, **asked), "sleep", "asleep")
    assert expected == high
    assert expected / 4 / 1e9 == pytest.approx(78, abs=0.6)
    assert expected / 1e9 == pytest.approx(841 - 520, rel=0.04)
    assert low / 4 / 1e9 == pytest.approx(53.6, abs=0.1)


def test_segments_are_rounded_one_by_one():
    """Two tensors of 12 MiB have segments of 12 and blocks of 16; of three numbers, one segment of
    2 MiB is a power of two."""
    slept = weights._segments((12 * MIB, 12 * MIB, 3), unsplit=False)
    assert slept == (26 * MIB, 34 * MIB)
    filling = filled((12 * MIB, 12 * MIB, 3))
    assert sum(size * n for size, n in filling.segments.items()) == filling.reserved


def test_level_2_keeps_nothing_and_a_server_that_never_sleeps_has_no_such_phase():
    for asked in ({"enable_sleep_mode": True, "sleep_level": 2}, {}):
        assert [p.name for p in machine(**asked).phases] == ["load"]
    slept = machine(enable_sleep_mode=True)
    assert [p.name for p in slept.phases] == ["load", "sleep"]
    here = weighbridge.infer("llama-3.2-1b", engine="vllm", gpu="h100").devices[0].phases[1]
    kept = sum(c.bytes.expected for c in here.components if c.name == "weights")
    low, _, high = held(slept, "sleep", "asleep")
    assert kept <= low <= high <= 2 * low  # a law: less than twice as much


def test_what_is_offloaded_already_does_not_sleep():
    whole = held(machine("llama-3.1-8b", enable_sleep_mode=True), "sleep", "asleep")
    device = machine("llama-3.1-8b", enable_sleep_mode=True, cpu_offload_gb=8)
    part, away = held(device, "sleep", "asleep"), held(device, "sleep", "offloaded")
    assert part[0] + away[0] == pytest.approx(whole[0], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "version", "said", "gib"),
    [
        ("llama-3.1-8b", "0.7.3", None, (4, 4, 4)),  # 32 layers of 128 MiB
        ("qwen2.5-7b", "0.7.3", None, (4, 7, 7)),  # 28 of 146 MiB, in 256
        ("llama-3.1-8b", "0.7.3", 0, None),
        ("falcon-mamba-7b", "0.7.3", None, None),  # states are no cache of tokens
        ("llama-3.1-8b", "0.8", None, None),
        ("llama-3.1-8b", "0.17", 16, None),  # nothing is made of it
    ],
)
def test_the_first_engine_had_a_cache_in_host_memory(model, version, said, gib):
    """worker/cache_engine.py of 0.6.4: torch.zeros(..., pin_memory=True) a layer; on two ranks twice
    as much."""
    device = machine(model, engine_version=version, swap_space=said)
    found = held(device, device.phases[-1].name, "swap")
    assert found == (None if gib is None else tuple(n * GIB for n in gib))
    if gib is not None:
        two = machine(model, "h100:2", engine_version=version, swap_space=said)
        assert held(two, "decode", "swap") == tuple(2 * n * GIB for n in gib)


@pytest.mark.parametrize(("gpus", "copies"), [(1, 1), (4, 1), (4, 2)])
def test_blocks_that_leave_the_cards(gpus, copies):
    """--kv-offloading-size is of all ranks of a copy together (config/cache.py): 10 GiB in 32 layers
    of four ranks are 80 MiB each, in 128 where torch pins them."""
    asked = {"tensor_parallel_size": gpus // copies, "data_parallel_size": copies}
    device = machine("llama-3.1-8b", f"h100:{gpus}", kv_offloading_size=10, **asked)
    low, expected, high = held(device, "decode", "offloaded blocks")
    assert low == expected == copies * 10 * GIB
    each = copies * 10 * GIB // gpus // 32
    assert high == gpus * 32 * (1 << (each - 1).bit_length())
    assert held(device, "load", "offloaded blocks") == (low, expected, high)


def test_what_a_command_says_of_host_memory():
    read = parse(
        "vllm serve a/b --kv-offloading-size 8 --swap-space 16 --enable-sleep-mode"
    ).settings
    assert (read["kv_offloading_size"], read["swap_space"]) == (8, 16)
    report = weighbridge.infer("llama-3.1-8b", engine="vllm", gpu="h100", kv_offloading_size=8)
    assert "--kv-offloading-size 8" in report.derived["launch"]


@pytest.mark.slow
def test_a_machine_that_is_too_small_for_weights_that_sleep():
    """61 GiB of weights are up to 122 in pinned blocks: never asleep it fits, which takes back what
    was typed, and so it does asleep without them."""
    asked = {"engine": "vllm", "gpu": "h100:2", "enable_sleep_mode": True, "ram": "60GiB"}
    report = weighbridge.infer("qwen2.5-32b", **asked)
    assert report.verdict.host.fits == "no"
    found = [(dict(r.change), r.fits) for r in report.remedies[:2]]
    assert found == [({"enable_sleep_mode": False}, "yes"), ({"sleep_level": 2}, "yes")]


def test_what_a_container_is_given():
    """All that sleeps, and pages of files: request and limit, in whole GiB."""
    report = weighbridge.infer(
        "llama-3.1-8b", engine="vllm", gpu="h100", enable_sleep_mode=True, kv_offloading_size=7
    )
    (device,) = [d for d in report.devices if d.kind == "host"]
    most = max(sum(c.bytes.high for c in p.components) for p in device.phases)
    assert report.verdict.host.container == -(-most // GIB) * GIB
    assert report.to_dict()["verdict"]["host"]["container_bytes"] == -(-most // GIB) * GIB
    assert most > device.peak("driver").expected > report.verdict.host.needed.low


@pytest.mark.parametrize(
    ("ram", "store"), [("100GB", 30 * 10**9), ("2TB", 200 * 10**9), (None, None)]
)
def test_rays_object_store_is_a_share_of_the_machine(ram, store):
    """ "a node with 2 TB of RAM gets a 200 GB object store, not 600 GB" (ray-project/ray pull 66022)."""
    device = machine("llama-3.1-8b", distributed_executor_backend="ray", ram=ram)
    found = held(device, "load", "object store")
    assert found == (None if store is None else (0, 0, store))
    plain = machine("llama-3.1-8b", distributed_executor_backend="mp", ram=ram)
    assert held(plain, "load", "object store") is None


@pytest.mark.parametrize(("version", "told"), [("0.17", True), ("0.7.3", False)])
def test_a_flag_that_makes_nothing_is_told(version, told):
    asked = {"engine": "vllm", "gpu": "h100", "engine_version": version, "swap_space": 16}
    report = weighbridge.infer("llama-3.1-8b", **asked)
    assert any("--swap-space" in warning for warning in report.warnings) is told


def test_a_level_of_a_server_that_never_sleeps_is_refused():
    with pytest.raises(weighbridge.UsageError, match=r"--sleep-level 2.*--enable-sleep-mode"):
        machine(sleep_level=2)


@pytest.mark.parametrize(
    ("gpu", "ranks", "there"),
    [("h100:16", 16, 8), ("gb200:8", 8, 4), ("4090:16", 16, 16), ("h100:8", 8, 8)],
)
def test_what_is_held_is_of_the_machine_that_holds_most(gpu, ranks, there):
    """A board has 8 H100, a tray 4 GB200; of other cards a machine has as many as it has slots. By
    hand: half a GiB to 2 of the server, and 1 to 4 of each worker."""
    asked = {"tensor_parallel_size": 8, "pipeline_parallel_size": ranks // 8}
    device = machine("llama-3.1-8b", gpu, **asked)
    assert held(device, "load", "processes") == (
        GIB // 2 + there * GIB,
        GIB + there * 5 * GIB // 2,
        2 * GIB + there * 4 * GIB,
    )


@pytest.mark.slow
def test_what_ranks_offload_is_dealt_out_with_them():
    one, two = (
        machine(
            "llama-3.1-8b",
            gpu,
            tensor_parallel_size=8,
            pipeline_parallel_size=2,
            kv_offloading_size=64,
            cpu_offload_gb=0.25,
        )
        for gpu in ("4090:16", "h100:16")
    )
    for detail in ("offloaded", "offloaded blocks"):
        assert held(two, "load", detail)[0] == held(one, "load", detail)[0] // 2 > 0
