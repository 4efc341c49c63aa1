"""Files that PyTorch, safetensors and their friends wrote, against what they themselves read."""

import collections
import io
import random

import pytest

from tests.formats.corpus import TARGETS
from tests.formats.drive import drive, parse
from tests.fuzz import MUTATIONS, mutate
from weighbridge.base.dtypes import GGML
from weighbridge.base.errors import BadFileError
from weighbridge.models.formats.gguf import KINDS, REMOVED, Array, gguf
from weighbridge.models.formats.pytorch import pytorch, torch_legacy, torch_zip
from weighbridge.models.formats.safetensors import header

torch = pytest.importorskip("torch")

FORMATS = [True, False]  # the zip format, and the one before PyTorch 1.6


def saved(value, zipped=True, **options):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped, **options)
    return file.getvalue()


def flat(value, path=""):
    """What we should find: every tensor of nested containers, under its dotted name."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    return {
        k: t
        for key, child in items
        for k, t in flat(child, f"{path}.{key}" if path else str(key)).items()
    }


def rows(tensors):
    return [
        (n, str(t.dtype).removeprefix("torch."), tuple(t.shape), t.numel() * t.element_size())
        for n, t in tensors.items()
    ]


def found_rows(found):
    return [
        (s.tensor.name, s.tensor.dtype.name, s.tensor.shape, s.tensor.nbytes) for s in found.tensors
    ]


def storage_bytes(tensors):
    return sum(
        {
            t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors.values()
        }.values()
    )


def linear():
    return torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Conv2d(3, 4, 2)
    )


def tied():
    m = torch.nn.ModuleDict(
        {"embed": torch.nn.Embedding(11, 3), "head": torch.nn.Linear(3, 11, bias=False)}
    )
    m["head"].weight = m["embed"].weight
    return m.state_dict()


def trained():
    model = linear()
    optimizer = torch.optim.AdamW(model.parameters())
    model[0](torch.zeros(2, 5)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": {"lr": 0.1},
    }


def views():
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "q": base[:2],
        "k": base[2:],
        "t": base.t(),
        "wide": base[0].expand(9, 6),
        "scalar": base[1, 2],
    }


DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


def every_dtype():
    return {
        str(d): torch.zeros(3, 2, dtype=torch.uint8).to(d)
        if d.itemsize == 1
        else torch.zeros(3, 2, dtype=d)
        for d in DTYPES
    }


CASES = {
    "state_dict": lambda: linear().state_dict(),
    "tied": tied,
    "trained": trained,
    "views": views,
    "dtypes": every_dtype,
    "empty": lambda: {"none": torch.zeros(0, 4), "scalar": torch.tensor(1.5)},
    "list": lambda: [torch.zeros(2), (torch.ones(3), {"x": torch.zeros(1)})],
    "one tensor": lambda: torch.zeros(4, 4),
    "parameters": lambda: {
        "p": torch.nn.Parameter(torch.zeros(3)),
        "b": torch.nn.Buffer(torch.zeros(2)),
    },
    "plain values": lambda: {
        "epoch": 3,
        "lr": 0.1,
        "name": "x",
        "n": None,
        "big": 1 << 70,
        "s": {1, 2},
        "b": b"x",
        "f": frozenset([1]),
    },
    "defaultdict": lambda: collections.defaultdict(dict, a=torch.zeros(2)),
    "size and device": lambda: {
        "s": torch.Size([1, 2]),
        "d": torch.device("cpu"),
        "t": torch.zeros(2),
        "dt": torch.float16,
    },
    "same container twice": lambda: (lambda d: {"model": d})({"w": torch.zeros(2)}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_what_torch_saved(case, zipped, protocol):
    value = CASES[case]()
    file = saved(value, zipped, pickle_protocol=protocol)
    tensors = flat(value)
    found, reads = drive(pytorch(len(file)), file)
    assert found_rows(found) == rows(tensors)
    assert found.file_bytes == len(file)
    assert sum(found.storages.values()) == storage_bytes(tensors)
    assert len(reads.ranges) <= 2
    assert found == parse(pytorch(), file)


@pytest.mark.parametrize("zipped", FORMATS)
def test_ties_and_views_share_their_storage(zipped):
    found = parse(pytorch(), saved(tied(), zipped))
    assert found.ties() == {"head.weight": "embed.weight"}
    assert sum(found.storages.values()) == 11 * 3 * 4
    found = parse(pytorch(), saved(views(), zipped))
    assert {s.storage for s in found.tensors} == {found.tensors[0].storage}
    assert [s.begin for s in found.tensors] == [0, 48, 0, 0, 32]
    assert sum(found.storages.values()) == 96


@pytest.mark.parametrize("zipped", FORMATS)
def test_a_slice_saves_its_whole_storage(zipped):
    found = parse(pytorch(), saved({"a": torch.zeros(1000)[:10]}, zipped))
    assert (found.tensors[0].tensor.nbytes, sum(found.storages.values())) == (40, 4000)


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_come_with_their_scales():
    plain = torch.quantize_per_tensor(torch.zeros(4, 3), 0.1, 0, torch.qint8)
    scales, points = torch.ones(4).double(), torch.zeros(4).long()
    channel = torch.quantize_per_channel(torch.zeros(4, 3), scales, points, 0, torch.quint8)
    found = {r[0]: r[1:] for r in found_rows(parse(pytorch(), saved({"w": plain, "c": channel})))}
    assert (found.pop("w"), found.pop("c")) == (("int8", (4, 3), 12), ("uint8", (4, 3), 12))
    assert sorted(found.values()) == [("float64", (4,), 32), ("int64", (4,), 32)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", FORMATS)
def test_a_whole_pickled_module(zipped):
    model = linear()
    found = parse(pytorch(), saved(model, zipped))
    assert {r[0]: r[1:] for r in found_rows(found)} == {
        r[0]: r[1:] for r in rows(model.state_dict())
    }
    assert any("Linear" in name for name in found.uncalled)


class Wrapper(torch.Tensor):
    """A tensor subclass that holds others, as quantization libraries define them."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=torch.float32)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("zipped", FORMATS)
def test_subclasses_and_attributes(zipped):
    named = torch.zeros(3)
    named.comment = "kept on the tensor"
    file = saved({"a": named, "w": Wrapper(torch.zeros(2, 2, dtype=torch.int8))}, zipped)
    found = parse(pytorch(), file)
    assert found_rows(found) == [("a", "float32", (3,), 12), ("w.inner", "int8", (2, 2), 4)]


def test_sparse_tensors_are_their_indices_and_values():
    found = parse(pytorch(), saved({"s": torch.eye(3).to_sparse()}))
    assert sorted(r[3] for r in found_rows(found)) == [12, 48]


@pytest.mark.filterwarnings("ignore")
def test_torchscript():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(linear()), file)
    found = parse(pytorch(), file.getvalue())
    assert sum(s.tensor.nbytes for s in found.tensors) >= sum(
        t.numel() * t.element_size() for t in linear().parameters()
    )


def test_a_large_zip_takes_three_reads_and_none_of_its_data():
    model = {f"model.layers.{i}.weight": torch.zeros(500) for i in range(3000)}
    file = saved(model)
    found, reads = drive(pytorch(len(file)), file)
    assert len(found.tensors) == 3000
    assert len(reads.ranges) <= 4
    assert reads.nbytes < len(file) / 4


@pytest.mark.parametrize("zipped", FORMATS)
def test_every_truncation_is_refused(zipped):
    file = saved(linear().state_dict(), zipped)
    for cut in range(0, len(file), 97):
        with pytest.raises(BadFileError):
            parse(pytorch(cut), file[:cut])


@pytest.mark.parametrize("first", [0, 1, 50, 700, 10_000])
def test_any_first_read_of_the_old_format(first):
    file = saved(trained(), zipped=False)
    assert parse(torch_legacy(first_read=first), file) == parse(torch_legacy(), file)
    assert parse(torch_zip(), saved(tied())) == parse(torch_zip(head=saved(tied())), saved(tied()))


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", FORMATS)
def test_code_is_never_run(zipped, tmp_path):
    import os

    target = tmp_path / "ran"
    evil = Runs(os.system, (f"touch {target}",))
    with pytest.raises(BadFileError, match=r"running 'posix.system'"):
        parse(pytorch(), saved(evil, zipped))
    found = parse(pytorch(), saved({"w": torch.zeros(3), "x": evil}, zipped))
    assert found_rows(found) == [("w", "float32", (3,), 12)]
    assert found.uncalled == ("posix.system",)
    assert not target.exists()


def test_safetensors_files(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    skip = {torch.complex128, torch.float8_e8m0fnu}
    model = {k: v.contiguous() for k, v in every_dtype().items() if v.dtype not in skip} | {
        "e": torch.zeros(0, 3),
        "s": torch.tensor(2.0),
    }
    file = safetensors.save(model, {"format": "pt"})
    found = parse(header(len(file)), file)
    want = {n: (d, s, b) for n, d, s, b in rows(safetensors.load(file))}
    assert {t.name: (t.dtype.name, t.shape, t.nbytes) for t in found.tensors} == want
    assert found.metadata == {"format": "pt"}


def test_the_table_of_types_is_that_of_the_gguf_package():
    constants = pytest.importorskip("gguf.constants")
    theirs = {
        int(q): (q.name, *constants.GGML_QUANT_SIZES[q]) for q in constants.GGMLQuantizationType
    }
    ours = {n: (d.name, d.block, d.nbytes) for n, d in GGML.items()}
    known = {n: row for n, row in theirs.items() if ours.get(n) != row}
    assert known in ({}, {9: ("Q8_1", 32, 40)})  # a C struct of 36; see dtypes.py
    assert not REMOVED.keys() & theirs.keys()
    assert {int(t) for t in constants.GGUFValueType} == {*KINDS}
    assert {int(t): t.name.lower() for t in constants.GGUFValueType} == KINDS


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_file_of_the_gguf_package(tmp_path, big_endian):
    package, np = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    endianess = package.GGUFEndian.BIG if big_endian else package.GGUFEndian.LITTLE
    path = tmp_path / "x.gguf"
    w = package.GGUFWriter(path, "llama", endianess=endianess)
    w.add_block_count(3)
    w.add_array("llama.attention.head_count_kv", [1, 2, 3])
    w.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(5000)])
    w.add_array("tokenizer.ggml.scores", [0.5] * 5000)
    w.add_bool("flag", True)
    w.add_float64("pi", 3.25)
    w.add_int64("minus", -5)
    w.add_tensor("a", np.zeros((5, 3), np.float32))
    w.add_tensor("b", np.zeros((7, 2, 4), np.float16))
    w.add_tensor("q", np.zeros((2, 34 * 4), np.uint8), raw_dtype=package.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    file = path.read_bytes()
    found = parse(gguf(len(file), first_read=100), file)
    assert [(t.name, t.dtype.name, t.shape, t.nbytes) for t in found.tensors] == [
        ("a", "F32", (5, 3), 60),
        ("b", "F16", (7, 2, 4), 112),
        ("q", "Q8_0", (2, 128), 272),
    ]
    assert found.metadata["llama.attention.head_count_kv"] == Array("int32", 3, (1, 2, 3))
    assert found.metadata["tokenizer.ggml.tokens"] == Array("string", 5000, None)
    assert found.metadata["tokenizer.ggml.scores"] == Array("float32", 5000, None)
    assert (found.metadata["flag"], found.metadata["pi"], found.metadata["minus"]) == (
        True,
        3.25,
        -5,
    )
    assert (found.version, found.big_endian) == (3, big_endian)
    if not big_endian:  # the package's reader cannot convert a big-endian file of such tensors
        reader = package.GGUFReader(path)
        assert found.data_offset == reader.data_offset
        assert {t.name: t.n_bytes for t in reader.tensors} == {
            t.name: t.nbytes for t in found.tensors
        }
    assert len(file) - 32 < found.file_bytes <= len(file)


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_as_by_the_reference_implementation():
    """The one difference: where a name is given twice, it takes the last."""
    reference = pytest.importorskip("safetensors")
    rng, seeds, read = random.Random(0), list(TARGETS["safetensors"].seeds()), 0
    for _ in range(5000):
        file = mutate(rng, rng.choice(seeds), MUTATIONS)
        try:
            theirs = {
                name: (tuple(t["shape"]), len(t["data"])) for name, t in reference.deserialize(file)
            }
        except reference.SafetensorError:
            theirs = None
        try:
            ours = {t.name: (t.shape, t.nbytes) for t in parse(header(len(file)), file).tensors}
        except BadFileError as error:
            ours = theirs if "twice" in str(error) else None
        assert ours == theirs, file
        read += ours is not None
    assert 250 < read < 4750
