"""What a training run takes at least: the same tensors at the same moments, by bytes alone."""

import pytest

from tests.forward.test_splice import ASKED, CONFIGS, LLAMA
from weighbridge import prepare
from weighbridge.answers.estimate.train import train
from weighbridge.answers.questions.question import question
from weighbridge.base.units import GIB
from weighbridge.base.watching import NotWantedError, Watch, watched

SMALL = {**LLAMA, "hidden_size": 128, "num_hidden_layers": 7, "vocab_size": 512}
OF_BLOCKS = ("rounding", "fragmentation")
MARGIN = "margin"  # a share of all the rest, blocks among it


def both(config, **settings):
    """The report of the whole run, and that of the count."""
    model, workload = prepare(config).model(), question("train", None, settings).workload
    return train(model, workload), train(model, workload, counts=True)


def held(phase):
    """Bytes of tensors by component."""
    told = [(c.name, c.detail, c.bytes) for c in phase.components if c.name not in OF_BLOCKS]
    return [each for each in told if each[1] != MARGIN]


def at_least(config, **settings):
    """The share of moments that are made of the very same tensors."""
    whole, least = both(config, **settings)
    same = []
    for device, counted in zip(whole.devices, least.devices, strict=True):
        if device.kind != "gpu":
            assert device == counted, "what is on the host does not depend on blocks"
            continue
        for phase, count in zip(device.phases, counted.phases, strict=True):
            assert phase.name == count.name
            for level in ("allocated", "reserved", "driver"):
                more, less = phase.at(level), count.at(level)
                assert less.expected <= more.expected, (phase.name, level)
                assert less.high <= more.high, (phase.name, level)
            # a margin is a share of all that is expected, free room of segments in it
            assert count.at("driver").low <= 1.01 * phase.at("driver").low
            assert count.at("allocated").expected > 0.97 * phase.at("allocated").expected
            same.append(held(count) == held(phase))
    return sum(same) / len(same)


def test_a_step_that_nobody_wants_ends_on_its_way():
    """Not only between questions: at the ends of its phases."""
    asked = []
    wanted = Watch(wanted=lambda: asked.append(1) or len(asked) < 3)
    with watched(wanted), pytest.raises(NotWantedError):
        prepare(SMALL).train(seq_len=64)
    assert len(asked) == 3


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_count_of_a_small_step_is_a_lower_bound(name):
    assert at_least(SMALL, **ASKED[name], seq_len=64) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_count_is_never_above_the_whole_run(name):
    at_least({**LLAMA, "num_hidden_layers": 14}, **ASKED[name], seq_len=96)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_count_of_layers_of_several_kinds_is_never_above(name):
    at_least(CONFIGS[name], seq_len=256)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "length"), [("full", 512), ("lora", 2048), ("qlora", 1024)])
def test_what_does_not_surely_fit_by_count_does_not_in_full(method, length):
    """On cards from far too small to large enough."""
    seen = set()
    for memory in (0.6, 1, 3, 4, 6, 9, 12, 15, 30):
        settings = {"gpu_memory": int(memory * GIB), "method": method, "seq_len": length}
        whole, least = (r.verdict.fits for r in both("qwen3-0.6b", **settings))
        assert least == "yes" or whole != "yes"
        assert least != "no" or whole == "no"
        seen.add((least, whole))
    assert {("no", "no"), ("yes", "yes")} <= seen
