import json
import random
from itertools import product
from math import prod

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from tests.formats.drive import drive, parse
from weighbridge.base.dtypes import SAFETENSORS
from weighbridge.base.errors import BadFileError
from weighbridge.models.formats.safetensors import FIRST_READ, MAX_HEADER, expected, header


def file_of(text, data=b""):
    """A file with this header, given as JSON text or as what becomes JSON."""
    raw = text if isinstance(text, bytes) else json.dumps(text, separators=(",", ":")).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(shape, begin=0, dtype="BF16"):
    d = SAFETENSORS[dtype]
    return {
        "dtype": dtype,
        "shape": shape,
        "data_offsets": [begin, begin + prod(shape) // d.block * d.nbytes],
    }


def file_with_header_of(nbytes):
    """A file whose header, the 8 bytes included, has exactly `nbytes` bytes."""
    bare = json.dumps({"": entry([2, 3])}, separators=(",", ":"))
    return file_of({"x" * (nbytes - 8 - len(bare)): entry([2, 3])}, bytes(12))


def refuses(file, words, size=None):
    with pytest.raises(BadFileError, match=words) as caught:
        parse(header(size), file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# Published: the bytes of the format's own tests (safetensors 0.8, tensor.rs: test_serialization*)


def test_the_bytes_of_the_reference_implementation():
    text = b'{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}'
    assert len(text) == 64
    found = parse(header(size=96), file_of(text, bytes(24)))
    assert [(t.name, t.dtype.name, t.shape, t.nbytes) for t in found.tensors] == [
        ("attn.0", "float32", (1, 2, 3), 24)
    ]
    assert (found.header_bytes, found.file_bytes) == (72, 96)


def test_the_reference_implementation_pads_with_spaces():
    found = parse(
        header(size=73),
        file_of(b'{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    ', b"0"),
    )
    assert found.tensors[0].nbytes == 1


def test_no_tensors():
    found = parse(header(size=16), file_of(b"{}      "))
    assert found.tensors == ()
    assert found.file_bytes == 16


# Edges


@all_of("dtype", SAFETENSORS)
def test_every_dtype(dtype):
    found = parse(header(), file_of({"a": entry([8, 3], dtype=dtype)}))
    bits = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "C64": 64}.get(dtype) or int(
        dtype.lstrip("UIBF").split("_")[0]
    )
    assert found.tensors[0].nbytes == 24 * bits // 8


@pytest.mark.parametrize(("shape", "nbytes"), [([0], 0), ([7, 0, 9], 0), ([], 2), ([1], 2)])
def test_empty_tensors_and_scalars(shape, nbytes):
    assert parse(header(), file_of({"a": entry(shape)})).tensors[0].nbytes == nbytes


def test_metadata_and_the_name_of_the_file():
    found = parse(
        header(file="m.safetensors"), file_of({"__metadata__": {"format": "pt"}, "a": entry([3])})
    )
    assert found.metadata == {"format": "pt"}
    assert [t.file for t in found.tensors] == ["m.safetensors"]
    assert parse(header(), file_of({"__metadata__": None})).metadata == {}


def test_escaped_names_and_names_with_quotes():
    names = ['say "hi"', "back\\slash", "é中🙂", "a,b:[{"]
    at = {name: entry([1], 2 * i) for i, name in enumerate(names)}
    found = parse(header(), file_of(json.dumps(at).encode(), bytes(8)))
    assert [t.name for t in found.tensors] == names
    found = parse(header(), file_of(json.dumps(at, ensure_ascii=False).encode(), bytes(8)))
    assert [t.name for t in found.tensors] == names


def test_offsets_in_another_order_than_names():
    found = parse(
        header(size=None), file_of({"b": entry([3], 4), "a": entry([2], 0), "c": entry([0], 4)})
    )
    assert [t.name for t in found.tensors] == ["b", "a", "c"]


@all_of("nbytes", range(FIRST_READ - 10, FIRST_READ + 11))
def test_around_the_first_read(nbytes):
    file = file_with_header_of(nbytes)
    found, reads = drive(header(len(file)), file)
    assert [(t.shape, t.nbytes) for t in found.tensors] == [((2, 3), 12)]
    assert found.header_bytes == nbytes
    assert len(reads.ranges) == (1 if nbytes <= FIRST_READ else 2)


# Laws


@pytest.mark.slow
@settings(deadline=None)
@given(size=st.integers(100, 3000), first=st.integers(0, 4000))
@example(size=100, first=100)
@example(size=100, first=99)
def test_any_first_read_gives_the_same_tensors(size, first):
    file = file_with_header_of(size)
    found, reads = drive(header(len(file), first_read=first), file)
    assert found == parse(header(), file)
    assert len(reads.ranges) <= 2
    assert reads.nbytes <= max(first, size, 8)


names = st.text(max_size=20)
shapes = st.lists(st.integers(0, 5), max_size=4)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.dictionaries(
        names.filter("__metadata__".__ne__),
        st.tuples(st.sampled_from(sorted(SAFETENSORS)), shapes),
        max_size=8,
    )
)
def test_what_was_written_is_read(model):
    at, want, entries = 0, [], {}
    for name, (dtype, shape) in model.items():
        d = SAFETENSORS[dtype]
        if prod(shape) % d.block:
            shape = [*shape, d.block]
        nbytes = prod(shape) // d.block * d.nbytes
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        want.append((name, d, tuple(shape), nbytes, ""))
        at += nbytes
    file = file_of(entries, bytes(at))
    found = parse(header(len(file)), file)
    assert list(found.tensors) == want
    assert found.file_bytes == len(file)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_every_truncation_is_refused(data):
    file = file_with_header_of(200)
    refuses(file[: data.draw(st.integers(0, 199))], "ends after|claims")
    cut = data.draw(st.integers(200, len(file) - 1))
    refuses(file[:cut], "bytes where its header describes", size=cut)


SPELLINGS = [[2, 3], [2, True], [2.0, 3], ["2", 3], "", {}, [], None, [3, 2], [2, 3, 1], [-2, -3]]
OFFSETS = [(0, 12), (12, 24), (12, 25), (12.0, 24), (True, 13), (-12, 0), ("12", 24), (24, 12)]


def test_a_tensor_like_the_one_before_it_is_checked_as_well(monkeypatch):
    from weighbridge.models.formats import safetensors

    scalar = {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]}
    files = [
        file_of({"first": entry([2, 3]), "scalar": scalar, "second": second})
        for second in spelled_otherwise()
    ]
    found = [outcome_of(file) for file in files]
    monkeypatch.setattr(
        safetensors,
        "_rows",
        lambda entries, file: [safetensors._row(n, e, file) for n, e in entries.items()],
    )
    assert found == [outcome_of(file) for file in files]


def spelled_otherwise():
    for shape, offsets, dtype in product(SPELLINGS, OFFSETS, ("BF16", "F32", 7, None)):
        yield {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def outcome_of(file):
    try:
        return parse(header(), file)
    except BadFileError as error:
        return str(error)


def test_tensors_may_come_in_any_order():
    empty = {"dtype": "BF16", "shape": [0], "data_offsets": [12, 12]}
    entries = [("a", entry([2, 3])), ("b", entry([2, 3], 12)), ("empty", empty)]
    for seed in range(6):
        random.Random(seed).shuffle(entries)
        found = parse(header(), file_of(dict(entries)))
        assert [t.name for t in found.tensors] == [name for name, _ in entries]
        assert found.file_bytes - found.header_bytes == 24


# Costs


def deepseek_v3_names():
    """The 89,436 expert tensors and their scales, dealt to 163 shards in the order of layers."""
    names = [
        f"model.layers.{layer}.mlp.experts.{e}.{p}_proj.weight{s}"
        for layer in range(3, 61)
        for e in range(256)
        for p in ("gate", "up", "down")
        for s in ("", "_scale_inv")
    ]
    return [names[i * len(names) // 163 : (i + 1) * len(names) // 163] for i in range(163)]


def deepseek_shard(names):
    entries, at = {}, 0
    for name in names:
        scale = name.endswith("_inv")
        new = entry([16, 56] if scale else [2048, 7168], at, "F32" if scale else "F8_E4M3")
        entries[name], at = new, new["data_offsets"][1]
    return file_of(entries)


@pytest.mark.slow
def test_deepseek_v3_takes_one_request_a_shard_and_half_the_bytes_more_at_most():
    hinted = plain = headers = 0
    shard = "model-00001-of-00163.safetensors"
    weight_map = {name: shard for names in deepseek_v3_names() for name in names}
    index = len(json.dumps({"weight_map": weight_map}, indent=2))
    for names in deepseek_v3_names():
        file = deepseek_shard(names)
        headers += len(file)
        found, reads = drive(header(first_read=expected(index, 163)), file)
        assert len(reads.ranges) == 1
        assert len(found.tensors) == len(names)
        hinted += reads.ranges[0].stop
        _, reads = drive(header(), file)
        assert len(reads.ranges) <= 2
        plain += max(r.stop for r in reads.ranges)
    assert headers <= hinted < 1.3 * headers
    assert plain < 1.5 * headers


@pytest.mark.slow
def test_100_000_tensors():
    names = [
        f"model.layers.{i % 61}.mlp.experts.{i // 61}.down_proj.weight" for i in range(100_000)
    ]
    assert len(parse(header(), deepseek_shard(names)).tensors) == 100_000


# Hostile files

GOOD = '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'


def with_a(**changes):
    return {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} | changes}


@all_of(
    ("text", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"nonsense", "is not JSON"),
        (b'{"a":NaN}', "holds NaN"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
        (
            b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,2]}}',
            "is not JSON",
        ),
        (GOOD.encode() + b',"a":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}}', "'a' twice"),
        (
            GOOD.encode() + b',"\\u0061":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}}',
            "'a' twice",
        ),
        (b'{"a":null,' + GOOD[1:].encode() + b"}", "'a' twice"),
        (b'{"a":{"dtype":"F32","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', "'dtype' twice"),
        (b'{"__metadata__":{"k":"1","k":"2"},' + GOOD[1:].encode() + b"}", "'k' twice"),
        (
            b'{"__metadata__":{},"__metadata__":{},' + GOOD[1:].encode() + b"}",
            "'__metadata__' twice",
        ),
        (
            {"a": entry([4], 0), "b": entry([4], 4)},
            "'b': at 4 it overlaps the tensor before it, to 8",
        ),
        ({"a": entry([4], 0), "b": entry([4], 9)}, "'b': at 9 it leaves a hole before it, to 8"),
        ({"a": entry([4], 1)}, "'a': at 1 it leaves a hole"),
        (with_a(shape=[3]), r"'a': 3 of uint8 takes 3 bytes, its offsets say 2"),
        (with_a(data_offsets=[2, 0]), "its offsets say -2"),
        (with_a(dtype="F4", shape=[3]), "whole byte"),
        (with_a(dtype="F6_E2M3", shape=[2]), "whole byte"),
        (with_a(dtype="F16"), "takes 4 bytes, its offsets say 2"),
        (with_a(shape=[-2, -1]), "-2 is not a size"),
        (with_a(shape=[True, 2]), "True is not a size"),
        (with_a(shape=[2.0]), "2.0 is not a size"),
        (with_a(shape=[None]), "None is not a size"),
        (with_a(shape=["2"]), "'2' is not a size"),
        (with_a(shape=[[2]]), "a list is not a size"),
        (with_a(shape=[1 << 63]), "is not a size"),
        (with_a(shape=[1 << 62] * 64), "takes far more bytes, its offsets say 2"),
        (with_a(shape=[1] * 65), "at most 64"),
        (with_a(shape="2"), "a shape must be a list"),
        (with_a(shape={}), "a shape must be a list"),
        (with_a(data_offsets=[0]), "data_offsets must be two numbers"),
        (with_a(data_offsets=[0, 2, 4]), "data_offsets must be two numbers"),
        (with_a(data_offsets=3), "data_offsets must be two numbers"),
        (with_a(data_offsets="02"), "is not a size or an offset"),
        (with_a(data_offsets=[False, 2]), "False is not a size"),
        (with_a(dtype="F128"), "unknown dtype 'F128'; known: BOOL, F4, .*C64.*U64"),
        (with_a(dtype=["U8"]), "unknown dtype a list"),
        (with_a(dtype=None), "unknown dtype None"),
        ({"a": {"shape": [2], "data_offsets": [0, 2]}}, "'a': has no dtype"),
        ({"a": {"dtype": "U8", "data_offsets": [0, 2]}}, "'a': has no shape"),
        ({"a": {"dtype": "U8", "shape": [2]}}, "'a': has no data_offsets"),
        ({"a": None}, "'a': an object was expected, not None"),
        ({"a" * 5000: 1}, "an object was expected, not 1"),
        ({"__metadata__": {"format": 1}}, "__metadata__"),
        ({"__metadata__": ["pt"]}, "__metadata__"),
        ({"__metadata__": "pt"}, "__metadata__"),
    ],
)
def test_hostile_headers(text, words):
    refuses(file_of(text, bytes(2)), words)


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, MAX_HEADER + 1])
def test_absurd_lengths_are_refused_after_one_read(length):
    refuses(
        length.to_bytes(8, "little") + b"{}", "our limit is 40,000,000|is not a safetensors file"
    )


def test_a_length_beyond_the_file():
    file = (5000).to_bytes(8, "little") + b"{}"
    refuses(file, "in a file of 10", size=10)
    refuses(file, "inside its header of 5,000")
    refuses(b"", "ends after 0 bytes")
    refuses(b"1234567", "ends after 7 bytes")


def test_a_file_longer_than_its_header_says():
    refuses(file_of(GOOD.encode() + b"}", bytes(3)), "describes 63", size=64)


def test_json_that_would_fill_memory():
    refuses(file_of(b'{"a":[' + b"{}," * 4_500_000 + b"0]}"), "bytes of memory")
