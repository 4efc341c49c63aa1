"""Answers with -ot as a whole: lines that mean the same, and each device's weights by hand."""

import pytest

import weighbridge
from tests.ask import usual
from weighbridge.base.errors import UsageError
from weighbridge.engines.llama_cpp.overrides import of_first, overrides

MODEL = {"engine": "llama.cpp", "quantization": "Q8_0", "context": 4096}
MIXTURE = "qwen3-30b-a3b"  # 48 layers with experts


asked = usual("infer", MIXTURE, **{**MODEL, "gpu": "3090"})


def held(report, kind="weights"):
    """Return the bytes of each device, the host last, once it serves."""
    return [
        sum(c.bytes.expected for c in d.phases[-1].components if c.name == kind)
        for d in report.devices
    ]


def amounts(report):
    """Return all bytes of each device: of every phase, and of every component by its name."""
    return [
        (phase.name, component.name, component.bytes)
        for device in report.devices
        for phase in device.phases
        for component in phase.components
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["llama.cpp", "ik_llama.cpp"])
def test_all_experts_by_name_or_by_number(engine):
    """-ot exps=CPU and --n-cpu-moe of all layers, in every phase of each device and the host."""
    settings = {"engine": engine, "n_gpu_layers": 99, "ram": "64GiB"}
    by_name = asked(**settings, override_tensor="exps=CPU")
    by_count = asked(**settings, n_cpu_moe=48)
    assert amounts(by_name) == amounts(by_count)
    assert by_name.verdict.fits == by_count.verdict.fits == "yes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "same"),
    [
        ("-cmoe", "-ot exps=CPU"),
        ("-ncmoe 20", rf"-ot '{of_first(20)}'"),
        ("-ncmoe 20 -ot attn=CPU", "-ot attn=CPU -ncmoe 20"),  # none is found by both
    ],
)
def test_lines_that_mean_the_same(flags, same):
    line = f"llama-server -m {MIXTURE} -c 4096 -ngl 99"
    one, other = (weighbridge.infer(command=f"{line} {f}", gpu="h100") for f in (flags, same))
    assert amounts(one) == amounts(other)


@pytest.mark.slow
def test_what_stands_first_decides_between_a_number_and_a_pattern():
    """The number before it keeps those layers' experts on the host; behind it, it has nothing."""
    line = f"llama-server -m {MIXTURE} -c 4096 -ngl 99"
    before, behind, whole = (
        held(weighbridge.infer(command=f"{line} {flags}", gpu="h100"))
        for flags in ("-ncmoe 20 -ot exps=CUDA0", "-ot exps=CUDA0 -ncmoe 20", "")
    )
    experts = 20 * 3 * 128 * 2048 * 768 * 2  # 16 bits
    assert whole[0] - before[0] == pytest.approx(experts, rel=1e-4)
    assert behind == whole


@pytest.mark.slow
def test_by_hand():
    """Q8_0 has 34 bytes for 32 numbers. A layer's experts are 3 matrices of 128 x 2048 x 768."""
    whole, moved = (
        held(asked(gpu="h100")),
        held(asked(gpu="h100", override_tensor=r"blk\.(0|7)\.ffn_.*_exps=CPU")),
    )
    experts = 2 * 3 * 128 * 2048 * 768 * 34 // 32
    assert whole[0] - moved[0] == pytest.approx(experts, abs=4096)
    assert moved[-1] - whole[-1] == pytest.approx(experts, abs=4096)
    one = held(asked(gpu="h100", override_tensor=r"blk\.7\.ffn_up_exps=CPU"))
    assert whole[0] - one[0] == pytest.approx(experts // 6, abs=4096)


@pytest.mark.slow
def test_dense_layers_of_each_card_by_hand():
    """Llama 3.2 1B, 16 layers over two cards evenly, and a matrix of 2048 x 8192 of two of each."""
    settings = {
        "quantization": None,
        "dtype": "bfloat16",
        "gpu": "3090+3090",
        "tensor_split": "1,1",
    }
    matrix = 2048 * 8192 * 2
    whole = held(asked("llama-3.2-1b", **settings))
    said = r"blk\.(2|15)\.ffn_up\.=CPU,blk\.3\.ffn_up\.=CUDA1,ffn_up=CUDA0"
    moved = held(asked("llama-3.2-1b", **settings, override_tensor=said))
    first = sum(i < 9 for i in range(16))  # 17 layers with the output: the first card has nine
    gone = -2 + (16 - first - 1)  # 2 and 3 are away; those of the second, but 15, are here
    assert moved[0] - whole[0] == gone * matrix
    assert moved[1] - whole[1] == (1 - (16 - first)) * matrix
    assert moved[2] - whole[2] == 2 * matrix


@pytest.mark.slow
def test_the_host_has_what_is_placed_there():
    """RAM that is not enough for it is said; a card that is named by its number has no other."""
    small, large = (asked(override_tensor="exps=CPU", ram=ram) for ram in ("16GiB", "64GiB"))
    assert (small.verdict.fits, large.verdict.fits) == ("no", "yes")
    assert asked(override_tensor="exps=CUDA0", ram="64GiB").verdict.fits == "no"


@pytest.mark.slow
def test_cards_that_differ():
    """A 3060 beside a 3090 has the experts of ten more layers, and no others move."""
    settings = {"gpu": "3090+3060", "quantization": "Q4_0", "tensor_split": "30,19"}
    whole = held(asked(**settings))
    moved = held(asked(**settings, override_tensor=r"blk\.1[0-9]\..*_exps=CUDA1"))
    assert moved[1] - whole[1] == whole[0] - moved[0]
    assert moved[1] - whole[1] == pytest.approx(10 * 3 * 128 * 2048 * 768 * 18 // 32, rel=1e-4)
    assert moved[2] == whole[2]


@pytest.mark.slow
def test_patterns_are_made_in_a_time_that_is_bounded_together():
    """19,000 states each, and as many patterns as are read; groups of nothing, repeated."""
    with pytest.raises(UsageError, match="takes too long"):
        overrides(("(a{1000}){19}=CPU",) * 1900, 1, None)
    with pytest.raises(UsageError, match="takes too long"):
        overrides(("(((){1000}){1000}){1000}=CPU",), 1, None)
