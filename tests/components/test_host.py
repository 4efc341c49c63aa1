"""What the host holds beside a part that is loaded: by hand, for each rule of each release."""

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.memory.components.host import (
    HostReading,
    LoadedPart,
    loaded,
    pages,
    processes,
    straight,
    while_loading,
    workers,
)
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.schemes import scheme
from weighbridge.models.tensors import CheckpointTensor

DENSE = (Param("a.weight", (1000,)),)
EXPERTS = (Param("a.weight", (250,)), Param("e.experts.0.w", (250,), kind="expert", copies=3))


def part(*files, params=DENSE, dtype=BFLOAT16, **more):
    """A part of 1,000 parameters; `files` are (name, bytes)."""
    stored = tuple(CheckpointTensor(f"t{n}", dtype, (1,), b, f) for n, (f, b) in enumerate(files))
    plan = Blueprint(cls="AnyModel", params=params)
    return ModelPart(name="", blueprint=plan, config={}, stored=stored, **more)


def found(of, version, *, to=BFLOAT16, native=BFLOAT16, made=False, **more):
    """(bytes of copies, pages of files) in a release."""
    copies, files = held(of, version, to=to, native=native, made=made, **more)
    return copies.expected, files


def held(of, version, *, to=BFLOAT16, native=BFLOAT16, made=False, **more):
    become = LoadedPart(to, to.size(1000), native, made)
    *copies, files = while_loading(of, become, HostReading(**more), version=version)
    assert files.droppable
    return (copies[0].bytes if copies else exactly(0)), files.bytes.high


def test_processes_of_torch():
    """Half a GiB of imports were read; 4 GiB is what nobody has contradicted."""
    assert processes(1).bytes == Bytes(GIB // 2, 3 * GIB // 2, 4 * GIB)
    assert processes(2).bytes == Bytes(GIB, 3 * GIB, 8 * GIB)
    assert processes(1).formula.startswith("a process of")
    assert processes(2).formula.startswith("2 processes of")


def test_workers_write_a_part_of_what_they_share():
    """5 to 7 MiB over an array and 165 over lists (`python -m benchmarks.loading`)."""
    each = workers(1).bytes
    assert each == Bytes(5 * MIB, (5 + 512) * MIB // 2, 512 * MIB)
    assert each.low < 165 * MIB < each.high
    assert workers(6).bytes == Bytes(*(6 * nbytes for nbytes in each))


def test_any_part_of_the_pages_of_files_may_be_in_memory():
    assert pages(7).bytes == Bytes(0, 7, 7)
    assert pages(7).droppable


@all_of(
    ("version", "copied"),
    [((4, 36), 2000), ((4, 50), 2000), ((4, 51), 0), ((4, 57), 0), ((5, 23), 0)],
)
def test_the_model_is_built_in_memory_before_4_51(version, copied):
    """low_cpu_mem_usage, transformers 4.51 modeling_utils.py."""
    assert found(part(("a.safetensors", 2000)), version) == (copied, 2000)


def test_a_change_of_dtype_copies_what_becomes_of_it():
    stored = part(("a.safetensors", 2000))
    assert found(stored, (5, 23), to=FLOAT32) == (4000, 2000)
    assert found(part(), (5, 23), to=FLOAT32) == (4000, 2000), "where no file was read"
    assert found(part(), (5, 23)) == (0, 2000)
    assert found(stored, (5, 23), made=True) == (2000, 2000)
    assert found(part(("a.bin", 2000), quantization={}), (5, 23), to=FLOAT32) == (0, 2000)


@pytest.mark.parametrize(("version", "copied"), [((4, 57), 0), ((5, 0), 1500)])
def test_experts_are_stacked_since_5(version, copied):
    """3 x 250 of 1,000 parameters, of 2,000 bytes (core_model_loading.py)."""
    assert found(part(("a.safetensors", 2000), params=EXPERTS), version) == (copied, 2000)


@pytest.mark.parametrize(
    ("version", "bounds"), [((4, 57), (4000, 4000, 4000)), ((5, 0), (4000, 5500, 7000))]
)
def test_experts_that_are_cast_may_wait_to_be_stacked(version, bounds):
    """750 of 1,000 numbers of four bytes, once more. 4 processes that cast and stacked a mixture of
    1,882 MiB, 1,536 of them experts, held 3,139 each (`python -m benchmarks.loading`)."""
    stored = part(("a.safetensors", 2000), params=EXPERTS)
    copies, _ = held(stored, version, to=FLOAT32)
    assert copies == Bytes(*bounds)
    assert 1882 < 3139 < 1882 + 1536
    assert held(stored, version, to=FLOAT32, made=True)[0] == exactly(4000), "quantized here"


@pytest.mark.parametrize(
    ("version", "copied"), [((4, 57), 0), ((5, 0), 1500), ((5, 22), 1500), ((5, 23), 0)]
)
def test_zero_3_stacked_all_experts_on_each_rank(version, copied):
    """integrations/deepspeed.py: a dict of all experts before 5.23, one parameter at a time since;
    in the dtype of the files."""
    stored = part(("a.safetensors", 2000), params=EXPERTS)
    assert held(stored, version, to=FLOAT32, in_parts=True, processes=3)[0] == exactly(3 * copied)
    dense = part(("a.safetensors", 2000))
    assert held(dense, version, to=FLOAT32, in_parts=True)[0] == exactly(0)
    packed = part(("a.safetensors", 2000), params=EXPERTS, quantization={})
    assert held(packed, version, in_parts=True)[0] == exactly(0)


@pytest.mark.parametrize(
    ("params", "copied"), [((), 0), ((Param("w", (1,), kind="expert"),), 2000)]
)
def test_a_part_of_one_parameter_or_of_none(params, copied):
    """All of it is the one expert's."""
    assert found(part(("a.safetensors", 2000), params=params), (5, 0)) == (copied, 2000)


@all_of(
    ("name", "version", "read"),
    [
        ("a.bin", (4, 36), 1400),
        ("a.pt", (4, 36), 1400),
        ("a.pth", (4, 36), 1400),
        ("a.ckpt", (4, 36), 1400),
        ("a.safetensors", (4, 36), 0),
        ("a.bin", (4, 37), 0),
    ],
)
def test_the_largest_pickle_was_read_whole_before_4_37(name, version, read):
    """1,400 of 2,000 bytes, beside the model that was built first."""
    two = part((name, 1400), (f"b{name}", 600))
    assert found(two, version) == (2000 + read, 2000)
    assert found(two, version, straight=True) == (read, 2000)


def test_processes_copy_each_and_share_the_pages():
    stored = part(("a.safetensors", 2000))
    assert found(stored, (4, 50), processes=3) == (6000, 2000)
    become = LoadedPart(BFLOAT16, 2000, BFLOAT16)
    alone, _ = while_loading(stored, become, HostReading(), version=(4, 50))
    three, _ = while_loading(stored, become, HostReading(processes=3), version=(4, 50))
    assert "processes" not in alone.formula
    assert three.formula.endswith("in 3 processes")


@all_of(
    ("form", "device_map", "said"),
    [
        ("", False, False),
        ("", True, True),
        ("nf4", False, True),
        ("fp4", False, True),
        ("bnb-int8", False, True),
        ("torchao-int8", False, False),
    ],
)
def test_bitsandbytes_takes_a_device_map_unasked(form, device_map, said):
    """update_device_map of quantizers/quantizer_bnb_4bit.py."""
    assert straight(scheme(form) if form else None, device_map=device_map) is said


def test_what_is_made_on_the_host():
    choice = lambda form: FormatChoice(dtype=BFLOAT16, scheme=scheme(form) if form else None)  # noqa: E731
    plain = part(("a.safetensors", 2000))
    assert loaded(plain, choice("torchao-int8"), 1000, BFLOAT16).converted
    assert loaded(plain, choice("hqq-4bit-g64"), 500, BFLOAT16).converted
    assert not loaded(plain, choice("nf4"), 500, BFLOAT16).converted
    assert not loaded(plain, choice(""), 2000, BFLOAT16).converted
    assert loaded(part(("a.gguf", 600)), choice(""), 2000, BFLOAT16).converted, "it is unpacked"
    stored = part(("a.safetensors", 1000), quantization={})
    assert not loaded(stored, choice("torchao-int8"), 1000, BFLOAT16).converted, (
        "it is packed already"
    )
