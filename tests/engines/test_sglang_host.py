"""Host memory of SGLang: its hierarchical cache, a second pool of each rank."""

import pytest

import weighbridge
from weighbridge.engines.launch import parse


def second(model="llama-3.1-8b", gpu="h100", **asked):
    """The report, and the bytes of the second pools in each phase of the host."""
    asked = {"enable_hierarchical_cache": True, **asked}
    report = weighbridge.infer(model, engine="sglang", gpu=gpu, **asked)
    (device,) = [d for d in report.devices if d.kind == "host"]
    pools = [
        tuple(c.bytes)
        for phase in device.phases
        for c in phase.components
        if c.detail == "hierarchical cache"
    ]
    return report, pools


@pytest.mark.parametrize(("ratio", "times"), [(None, 2), (1, 1), (2.5, 2.5)])
def test_the_ratio_is_of_the_cards_own_pool(ratio, times):
    """A token of Llama 3.1 8B takes 128 KiB. Tokens of the card's pool times the ratio, and a page
    of one token (pool_host/base.py: page_num = size // page_size + 1)."""
    report, pools = second(hicache_ratio=ratio)
    tokens = int(report.derived["max_total_num_tokens"] * times) + 1
    assert pools == [(tokens * 131_072,) * 3] * 3  # load, prefill, decode


@pytest.mark.parametrize(("gpu", "ranks"), [("h100", 1), ("h100:2", 2)])
def test_a_size_is_of_each_rank(gpu, ranks):
    """GB of 10^9 bytes: int(host_size * 1e9 // size_per_token) tokens, which ranks share out."""
    _, pools = second(gpu=gpu, hicache_size=30)
    unit = 131_072 // ranks
    assert pools[0] == (ranks * (30 * 10**9 // unit + 1) * unit,) * 3


def test_whole_pages():
    _, pools = second(hicache_size=1, page_size=64)
    assert pools[0][0] == (10**9 // 131_072 // 64 + 1) * 64 * 131_072


def test_sliding_layers_may_be_there():
    """A law: what a token takes at least and at most."""
    _, pools = second("gpt-oss-20b")
    low, expected, high = pools[0]
    assert low == expected < high == 2 * low  # every other layer slides


@pytest.mark.slow
def test_none_is_there_unasked_and_a_machine_may_be_too_small():
    assert second(enable_hierarchical_cache=False)[1] == []
    report, pools = second(ram="64GiB")
    assert report.verdict.host.fits == "no"
    assert report.verdict.host.needed.low > pools[0][0]


def test_what_a_command_says():
    line = "python -m sglang.launch_server --model a/b --enable-hierarchical-cache --hicache-size 9"
    read = parse(line).settings
    assert (read["enable_hierarchical_cache"], read["hicache_size"]) == (True, 9)


@pytest.mark.parametrize(
    "asked", [{"hicache_size": 30}, {"hicache_ratio": 2.5}, {"hicache_size": 0}]
)
def test_the_size_of_a_second_cache_without_one_is_refused(asked):
    ((name, value),) = asked.items()
    said = (
        rf"--{name.replace('_', '-')} {value}: sglang .* --enable-hierarchical-cache alone; add it"
    )
    with pytest.raises(weighbridge.UsageError, match=said):
        second(enable_hierarchical_cache=False, **asked)


def test_a_second_cache_without_a_size_is_answered_again_by_its_own_settings():
    report, pools = second()
    again = weighbridge.infer("llama-3.1-8b", **report.workload)
    assert pools and again.peak == report.peak
    plain, _ = second(enable_hierarchical_cache=False)
    assert weighbridge.infer("llama-3.1-8b", **plain.workload).peak == plain.peak


def test_what_is_held_is_of_one_machine():
    """A board has 8 of 16 H100; of other cards a machine has as many as it has slots."""
    one, two = (
        weighbridge.infer(
            "llama-3.1-8b",
            engine="sglang",
            gpu=gpu,
            tensor_parallel_size=16,
            enable_hierarchical_cache=True,
            hicache_size=4,
        ).devices[-1]
        for gpu in ("4090:16", "h100:16")
    )
    for phase, other in zip(one.phases, two.phases, strict=True):
        for part, of_one in zip(phase.components, other.components, strict=True):
            if not part.droppable:
                assert part.bytes == tuple(2 * n for n in of_one.bytes)
