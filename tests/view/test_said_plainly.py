"""What a fresh user was told wrongly: divisions, bare sizes, cards with other memory, dtypes."""

import re
from collections.abc import Callable

import pytest
from click import UsageError as ClickUsageError

from weighbridge import fit, infer, load, train
from weighbridge.answers.verdict.on_host import judged
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import GIB
from weighbridge.engines.table import ENGINES, version
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.options import output_form
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.pools import MachineMemory
from weighbridge.memory.report import Report

WIDE = RenderOptions(width=200)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int4", "int8", "fp8"])
def test_a_division_is_no_format_that_fits(dtype: str) -> None:
    found = infer("qwen2.5-7b", dtype=dtype, gpu="rtx 4090")
    assert found.verdict is not None
    assert found.verdict.fits == "unknown"
    assert "none holds every weight alike" in found.verdict.reason


@pytest.mark.slow
def test_16_bits_are_no_division() -> None:
    found = infer("qwen2.5-7b", dtype="bfloat16", gpu="rtx 4090")
    assert found.verdict is not None
    assert found.verdict.fits == "yes"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_server_names_its_formats(engine: str) -> None:
    with pytest.raises(UsageError, match="--quantization fp8"):
        infer("qwen2.5-7b", dtype="fp8", engine=engine)


def test_a_dtype_beside_a_format_is_of_what_it_leaves() -> None:
    with pytest.raises(UsageError, match=r"bfloat16, float16 or float32"):
        infer("qwen2.5-7b", dtype="int4", quantization="nf4")


@pytest.mark.parametrize("model", ["qwen2.5-7b", "llama-2-7b", "qwen3-8b"])
def test_a_bare_size_holds_real_models_in_nf4(model: str) -> None:
    size = f"{model.rpartition('-')[2]}"
    bare, real = _weights(load(size, quantization="nf4")), _weights(load(model, quantization="nf4"))
    assert bare.low <= real.expected <= bare.high


def test_a_bare_size_that_fills_its_rows() -> None:
    """8,000,000,000 numbers are whole rows, and nothing is left."""
    assert _weights(load("8b")).expected == 16 * 10**9


def test_a_bare_size_in_16_bits_leaves_nothing_alone() -> None:
    assert _weights(load("7b")).high == pytest.approx(1.1 * 14e9, abs=2)


def _weights(found: Report) -> Bytes:
    return next(c.bytes for c in found.devices[0].phases[0].components if c.name == "weights")


@pytest.mark.slow
def test_more_memory_than_such_a_card_has() -> None:
    found = infer("qwen2.5-7b", gpu="4090", gpu_memory="40GiB")
    assert any("has 24 GB; 40.00 GiB were taken, as you said" in w for w in found.warnings)
    less = infer("qwen2.5-7b", gpu="4090", gpu_memory="20GiB")
    assert not any("as you said" in w for w in less.warnings)


def test_releases_are_no_range_that_falls() -> None:
    _, said = version(ENGINES["vllm"], "9.9")
    assert "our rules are for releases 0.9 to 0.33" in said


def test_too_close_to_call_on_the_host() -> None:
    held = Component(name="other", bytes=Bytes(GIB // 2, GIB, 4 * GIB), basis="assumed")
    host = Device(index=0, kind="host", phases=(Instant("load", (held,)),))
    said = judged(host, MachineMemory(room=exactly(GIB), source="as you said")).reason
    assert "too close to call: needs 512.00 MiB to 4.00 GiB, the machine has 1.00 GiB" in said


@pytest.mark.slow
def test_host_memory_that_decides_has_the_figures() -> None:
    found = fit("qwen3-30b-a3b", gpu="4090", ram="8GiB", n_cpu_moe=999, engine="llama.cpp")
    of_ram = found.ladder[-1].verdict.host
    assert of_ram is not None and of_ram.available == 8 * GIB
    needs = f"{of_ram.needed.expected / GIB:.1f} GiB"
    short = f"{of_ram.needed.expected / GIB - 8:.1f} GiB"
    english = render(found, "human", WIDE)
    assert f"it needs about {needs} of RAM, short by {short}\n" in english
    assert f"llama.cpp  ✗ {needs} of RAM" in english
    row = next(line for line in english.splitlines() if line.startswith("  infer 4K"))
    asked = found.question("infer").verdict
    assert asked is not None and asked.host is not None
    lacks = asked.host.needed.expected / GIB - 8
    assert f"of RAM  {-lacks:+.1f}" in re.sub(" {3,}", "  ", row)
    chinese = render(found, "human", WIDE._replace(lang="zh"))
    assert f"内存 {needs}，差 {short}\n" in chinese


@pytest.mark.slow
def test_a_card_that_decides_has_the_figures_beside_host_memory() -> None:
    found = fit("llama-3.1-70b", gpu="a100-40gb", ram="512GiB", engine="vllm")
    assert "of RAM" not in render(found, "human", WIDE)


@pytest.mark.slow
@pytest.mark.parametrize("ask", [load, infer])
def test_experts_that_stay_in_16_bits_are_said(ask: Callable[..., Report]) -> None:
    def told(version: str) -> list[str]:
        found = ask("qwen3-30b-a3b", quantization="nf4", engine_version=version)
        return [w for w in found.warnings if "bitsandbytes packs linear layers alone" in w]

    assert len(told("5.23")) == 1
    assert not told("4.57")


@pytest.mark.slow
def test_experts_are_said_once_in_training() -> None:
    found = train("qwen3-30b-a3b", method="qlora", seq_len=128)
    assert sum("bitsandbytes packs linear layers alone" in w for w in found.warnings) == 1


@pytest.mark.parametrize(("name", "gb"), [("rtx 3060 laptop", 6), ("rtx 3050 laptop", 4)])
def test_small_laptops(name: str, gb: int) -> None:
    assert find(name).part.marketed_gb == gb


def test_two_forms_contradict_each_other() -> None:
    with pytest.raises(ClickUsageError, match="--json and --format markdown"):
        output_form("markdown", as_json=True, quiet=False)
    assert output_form("auto", as_json=True, quiet=False) == "json"


@pytest.mark.parametrize(
    ("engine", "asked", "rules"),
    [("vllm", "0.2", "0.9"), ("transformers", "3.0", "4.30"), ("vllm", "99", None)],
)
def test_a_release_that_is_not_known_is_said_first(
    engine: str, asked: str, rules: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = rules or ".".join(map(str, ENGINES[engine].newest))
    said = ["infer", "gpt2", "--engine", engine, "--context", "512", "--engine-version"]
    assert run([*said, asked]) == 0
    out, warned = capsys.readouterr()
    title = " ".join(out.split("\n\n")[0].split())
    assert f"{asked} (by {rules}'s rules)" in title
    warnings = [line for line in warned.splitlines() if line.startswith("warning: ")]
    assert f"those of {rules} are used" in warnings[0]
    assert run([*said, rules]) == 0
    assert "not known" not in capsys.readouterr().out


@pytest.mark.slow
def test_training_says_so_first_too() -> None:
    found = train("gpt2", engine_version="3.0")
    assert "those of 4.30 are used" in found.warnings[0]
