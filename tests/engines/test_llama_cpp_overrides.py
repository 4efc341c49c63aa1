"""-ot: tensors that go where their names say."""

import json
import shlex

import pytest

import weighbridge
from weighbridge.cli.menu import run
from weighbridge.engines.llama_cpp.overrides import blocks, named, of_first, overrides
from weighbridge.engines.llama_cpp.patterns import NamePattern
from weighbridge.errors import UsageError

MODEL = {"engine": "llama.cpp", "quantization": "Q8_0", "context": 4096}
MIXTURE = "qwen3-30b-a3b"  # 48 layers with experts


def asked(name=MIXTURE, gpu="3090", **settings):
    return weighbridge.infer(name, **{**MODEL, "gpu": gpu, **settings})


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


@pytest.mark.parametrize("count", [1, 9, 10, 11, 37, 48, 99, 100, 123])
def test_blocks_are_those_and_no_others(count):
    told = NamePattern(blocks(range(count)) + r"\.")
    assert [told.found(f"blk.{i}.x") for i in range(200)] == [i < count for i in range(200)]
    odd = NamePattern(blocks(range(1, count + 100, 7)) + r"\.")
    assert [i for i in range(300) if odd.found(f"blk.{i}.")] == list(range(1, count + 100, 7))


def test_the_first_pattern_that_is_found_decides():
    said = overrides(("blk.1=CUDA1", r"exps=CPU", "blk.2=CUDA0"), 2, None)
    names = ("blk.1.ffn_up_exps", "blk.2.ffn_up_exps", "blk.2.attn_q", "output")
    assert named(names, said) == {"blk.1.ffn_up_exps": 0, "blk.2.ffn_up_exps": 1, "blk.2.attn_q": 2}
    assert [each.device for each in said] == [1, 2, 0]  # the host is behind both cards


@pytest.mark.parametrize(
    ("pairs", "gpus", "alone", "why"),
    [
        (("exps",), 1, None, "has no buffer"),
        (("exps=CUDA1",), 1, None, "no CUDA1 among 1 GPU"),
        (("exps=CUDA2",), 2, None, "no CUDA2 among 2 GPUs"),
        (("exps=Disk",), 1, None, "'Disk' is no buffer"),
        (("exps=CUDA1",), 2, 0, "uses GPU 0 alone"),
        (("(=CPU",), 1, None, "not closed"),
        (("a" * 40_000 + "=CPU",), 1, None, "32,768 signs"),
        (("(a{1000}){19}=CPU",) * 1900, 1, None, "takes too long"),
    ],
)
def test_what_the_program_refuses(pairs, gpus, alone, why):
    with pytest.raises(UsageError, match=why):
        overrides(pairs, gpus, alone)


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 48])
def test_experts_by_name_are_those_of_the_first_layers(count):
    """llama.cpp turns -ncmoe into such patterns itself."""
    by_count = asked(n_cpu_moe=count)
    by_name = asked(override_tensor=f"{blocks(range(count))}\\.ffn_.*_exps=CPU")
    assert held(by_name) == held(by_count)
    assert [d.peak("driver") for d in by_name.devices] == [
        d.peak("driver") for d in by_count.devices
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


def test_a_card_may_have_the_experts_of_another():
    there = asked(gpu="3090+3090", tensor_split=(49, 0), override_tensor="exps=CUDA1")
    first, second, _ = held(there)
    assert second == pytest.approx(48 * 3 * 128 * 2048 * 768 * 34 // 32, rel=1e-4)
    assert 0 < first < second / 10
    assert all(d.peak("driver").expected > 0 for d in there.devices[:2])


def test_dense_layers_are_placed_too():
    """All feed-forwards of Llama 3.2 1B: 16 layers of 3 matrices of 2048 x 8192, of 16 bits."""
    settings = {"quantization": None, "dtype": "bfloat16"}
    whole = held(asked("llama-3.2-1b", **settings))
    moved = held(asked("llama-3.2-1b", **settings, override_tensor="ffn_(up|down|gate)=CPU"))
    assert whole[0] - moved[0] == pytest.approx(16 * 3 * 2048 * 8192 * 2, abs=1 << 16)


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


def test_the_host_has_what_is_placed_there():
    """RAM that is not enough for it is said; a card that is named by its number has no other."""
    small, large = (asked(override_tensor="exps=CPU", ram=ram) for ram in ("16GiB", "64GiB"))
    assert (small.verdict.fits, large.verdict.fits) == ("no", "yes")
    assert asked(override_tensor="exps=CUDA0", ram="64GiB").verdict.fits == "no"


def test_cards_that_differ():
    """A 3060 beside a 3090 has the experts of ten more layers, and no others move."""
    settings = {"gpu": "3090+3060", "quantization": "Q4_0", "tensor_split": "30,19"}
    whole = held(asked(**settings))
    moved = held(asked(**settings, override_tensor=r"blk\.1[0-9]\..*_exps=CUDA1"))
    assert moved[1] - whole[1] == whole[0] - moved[0]
    assert moved[1] - whole[1] == pytest.approx(10 * 3 * 128 * 2048 * 768 * 18 // 32, rel=1e-4)
    assert moved[2] == whole[2]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("exps", "is pairs such as exps=CPU"),
        ("exps=CPU,", "is pairs such as exps=CPU"),
        ("exps=CUDA1", "there is no CUDA1 among 1 GPU"),
        ("exps=Disk", "'Disk' is no buffer"),
        ("(=CPU", "is not closed"),
        ("(((){1000}){1000}){1000}=CPU", "takes too long"),
    ],
)
def test_one_line_says_what_is_wrong(said, why, capsys):
    words = ["infer", MIXTURE, "--engine", "llama.cpp", "--gpu", "h100"]
    assert run([*words, "-ot", said]) == 2
    [line] = capsys.readouterr().err.strip().split("\n")
    assert line.startswith("error: --override-tensor ")
    assert why in line


def test_a_pattern_that_places_nothing_is_told():
    warnings = " ".join(asked(override_tensor=("exps=CPU", "blk.[0-9]*.nope=CPU")).warnings)
    assert "'blk.[0-9]*.nope=CPU' places no tensor" in warnings
    assert "exps=CPU' places no tensor" not in warnings


@pytest.mark.slow
def test_the_command_line_reads_flags_that_are_given_twice(capsys):
    """A pattern with a space and quotes goes through the shell, and comes back the same."""
    words = ["infer", MIXTURE, "--engine", "llama.cpp", "--quantization", "Q8_0", "--gpu", "3090"]
    flags = ["-ot", r"blk\.(1[0-9])\.ffn_.*_exps\.=CPU", "-ot", r"blk\.2\..*_exps=CPU,x y=CPU"]
    assert run([*words, *flags, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    [line] = [w for w in first["derived"]["launch"].split("\n") if w.startswith("llama-server")]
    assert shlex.split(line)[shlex.split(line).index("-ot") + 1] == ",".join([flags[1], flags[3]])
    assert run(["infer", "--command", line, "--gpu", "3090", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [d["peak"] for d in again["devices"]] == [d["peak"] for d in first["devices"]]
    assert run([*words, "-ot", "blk.(=CPU"]) == 2
    assert "is not closed" in capsys.readouterr().err


@pytest.mark.slow
def test_experts_are_placed_by_name_where_no_number_of_layers_fits(capsys):
    """Half a GiB of host memory less than the experts of 17 layers need: those of six layers are
    the smaller card's, and one matrix of another layer is left to the host."""
    asked = {"engine": "llama.cpp", "gpu": "4090+3060", "context": 8192, "cache_type_k": "f16"}
    model = weighbridge.prepare("gpt-oss-120b")
    packed = {"for_": "infer", "quantization": "Q4_K_M"}
    by_count, by_name = (
        model.layouts(**packed, **asked, ram=ram).rows[0] for ram in ("36GiB", "35.5GiB")
    )
    assert "-ncmoe 17" in by_count["flags"]
    assert "CUDA1" in by_name["flags"]
    assert by_name["host_bytes"] < by_count["host_bytes"]
    assert by_count["fits"] == by_name["fits"] == "yes"
    assert run(["infer", "gpt-oss-120b", *shlex.split(by_name["flags"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["fits"] == "yes"
    peaks = [d["peak"]["driver"]["expected"] for d in found["devices"] if d["kind"] == "gpu"]
    assert peaks == [card["needs_bytes"] for card in by_name["cards"]]
