"""PyTorch checkpoints written opcode by opcode; tests/torch reads those of PyTorch itself."""

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from tests.formats.build_torch import (
    call,
    legacy,
    legacy_model,
    model,
    named,
    number,
    storage,
    tensor,
    text,
    value,
    zip_model,
    zipped,
)
from tests.formats.build_torch import pickle as build_pickle
from tests.formats.drive import drive, parse
from weighbridge.base.errors import BadFileError
from weighbridge.models.formats import Prefix
from weighbridge.models.formats.checkpoint import STORAGES
from weighbridge.models.formats.pytorch import pytorch, torch_legacy, torch_zip
from weighbridge.models.formats.unpickle import Global, Map, PickledCall, Sequence, unpickle


def refuses(file, words, plan=pytorch, size=None):
    with pytest.raises(BadFileError, match=words) as caught:
        parse(plan(size), file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def rows(found):
    return [
        (s.tensor.name, s.tensor.dtype.name, s.tensor.shape, s.tensor.nbytes) for s in found.tensors
    ]


WANT = [
    ("w", "float32", (2, 3), 24),
    ("b", "float16", (3,), 6),
    ("tied", "float32", (2, 3), 24),
    ("opt.state.0.exp_avg", "int64", (2, 2), 32),
]


@pytest.mark.parametrize("build", [zip_model, legacy_model])
def test_both_formats(build):
    file = build()
    found, reads = drive(pytorch(len(file), file="m.bin"), file)
    assert rows(found) == WANT
    assert {s.tensor.file for s in found.tensors} == {"m.bin"}
    assert found.storages == {"0": 24, "1": 6, "2": 32}
    assert found.ties() == {"tied": "w"}
    assert found.uncalled == ()
    assert found.file_bytes == len(file)
    assert len(reads.ranges) == (2 if build is zip_model else 1)


def test_a_view_begins_within_its_storage():
    v = {"a": tensor("0", (2,), count=6), "b": tensor("0", (2,), count=6, offset=4)}
    found = parse(pytorch(), zipped(v, {"0": 24}))
    assert [s.begin for s in found.tensors] == [0, 16]
    assert (found.storages, found.ties()) == ({"0": 24}, {})
    refuses(zipped(v, {"0": 28}), "holds 28 bytes of storage '0', not 24")


@all_of("kind", STORAGES)
def test_every_storage(kind):
    nbytes = 5 * STORAGES[kind].nbytes
    found = parse(torch_zip(), zipped({"t": tensor("0", (5,), kind=kind)}, {"0": nbytes}))
    assert rows(found) == [("t", STORAGES[kind].name, (5,), nbytes)]


@pytest.mark.slow
@pytest.mark.parametrize("build", [zip_model, legacy_model])
def test_every_truncation_is_refused(build):
    file = build()
    for cut in range(len(file)):
        with pytest.raises(BadFileError):
            parse(pytorch(cut), file[:cut])


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 500))
def test_any_first_read_of_the_old_format(first):
    file = legacy_model()
    assert parse(torch_legacy(len(file), first_read=first), file) == parse(torch_legacy(), file)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 700))
def test_any_head_of_a_zip(length):
    file = zip_model()
    assert parse(torch_zip(len(file), head=file[:length]), file) == parse(torch_zip(), file)


@pytest.mark.slow
def test_a_directory_larger_than_the_tail():
    storages = {str(i): 4 for i in range(2000)}
    file = zipped({f"layer.{i}": tensor(str(i), (1,)) for i in range(2000)}, storages)
    found, reads = drive(pytorch(len(file)), file)
    assert len(found.tensors) == 2000
    assert len(reads.ranges) == 4
    assert found == parse(pytorch(), file)


# The pickle machine


def load(raw):
    return parse(Prefix(len(raw), first_read=10, limit=1 << 20).whole(unpickle), raw)


def plain(v):
    """Our records as Python's containers, to be compared."""
    if isinstance(v, Map):
        return {plain(k): plain(x) for k, x in v}
    if isinstance(v, Sequence):
        return [plain(x) for x in v]
    return tuple(map(plain, v)) if type(v) is tuple else v


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=30,
)


@pytest.mark.slow
@settings(deadline=None)
@given(PLAIN, st.integers(0, 5))
def test_plain_values_are_what_pickle_wrote(v, protocol):
    import pickle as standard

    if protocol == 0:  # text of protocol 0 is escaped; only its numbers and containers are read
        v = [True, False, None, 1.5, 1 << 70, {1: [2]}, (), (3,)]
    assert plain(load(standard.dumps(v, protocol))) == v


def test_old_opcodes():
    assert plain(load(b"(lp0\nI1\na(dp1\nS'k'\nL12L\nsa(V\xc3\xa9\nF0.5\nta.")) == [
        1,
        {"k": 12},
        ("é", 0.5),
    ]
    assert load(b"cmodule\nname\n.") == Global("module", "name")
    assert isinstance(load(b"(imodule\nname\n."), PickledCall)
    assert isinstance(load(b"(cmodule\nname\nK\x01o."), PickledCall)


@all_of(
    ("raw", "words"),
    [
        (b"", "ends after 0 bytes"),
        (b"\x80\x02", "ends after"),
        (b".", "takes from an empty stack"),
        (b"t.", "a mark that is not there"),
        (b"(0.", "takes from an empty stack"),
        (b"(R.", "takes from an empty stack"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\xff.", "opcode 0xff at byte 0"),
        (b"\x82\x01.", "opcode 0x82"),
        (b"h\x05.", "recalls 5"),
        (b"gx\n.", "'x' is no place"),
        (b"g99999999999\n.", "is no place"),
        (b"Inonsense\n.", "'nonsense' is not a number"),
        (b"F.\n.", "is not a number"),
        (b"I" + b"9" * 4000 + b"9" * 90 + b"\n.", None),
        (b"I" + b"9" * 5000 + b"\n.", "a line of more than"),
        (b"c" + b"m" * 5000, "a line of more than"),
        (b"\x8aX" + b"1" * 88 + b".", None),
        (b"\x8b\xff\xff\xff\x7f", "an integer of 2,147,483,647"),
        (b"\x8b\xff\xff\xff\xff", "an integer of -1"),
        (b"X\xff\xff\xff\xff", "more than 1,048,576"),
        (b"\x8d" + b"\xff" * 8, "more than 1,048,576"),
        (b"NN\x93.", "whose name is no text"),
        (b"Na.", "takes from an empty stack"),
        (b"NNa.", "appends to what is no list"),
        (b"NNNs.", "sets items of what is no dict"),
        (b"}(Nu.", "sets items of what is no dict"),
        (b"NP1\n.", "refers to data outside"),
        (b"NQ.", "refers to data outside"),
        (b"\x97.", "opcode 0x97"),
    ],
)
def test_broken_pickles(raw, words):
    if words is None:
        assert type(load(raw)) is int
        return
    with pytest.raises(BadFileError, match=words):
        load(raw)


# Hostile checkpoints


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "Popen")],
)
@pytest.mark.parametrize("build", [lambda v: zipped(v, {}), lambda v: legacy(v, {})])
def test_code_is_named_and_never_run(module, name, build):
    refuses(build(call(module, name, "touch /ran")), f"without running '{module}.{name}'")
    refuses(
        build({"model": [call(module, name, "touch /ran")]}), f"without running '{module}.{name}'"
    )
    refuses(build(named(module, name) + b")\x81"), f"without running '{module}.{name}'")


def test_code_beside_tensors_is_reported():
    found = parse(
        pytorch(), zipped({"w": tensor("0", (3,)), "x": call("os", "system", "true")}, {"0": 12})
    )
    assert (rows(found), found.uncalled) == ([("w", "float32", (3,), 12)], ("os.system",))


def test_calling_the_result_of_a_call():
    evil = call("builtins", "getattr", named("os", "path"), "system") + value(("true",)) + b"R"
    refuses(zipped(evil, {}), "without running 'builtins.getattr'")


def test_names_of_globals_are_printable():
    evil = text("os\n\x1b[31m") + text("system") + b"\x93)R"
    refuses(zipped(evil, {}), "without running")
    found = parse(pytorch(), zipped({"w": tensor("0", (3,)), "x": evil}, {"0": 12}))
    assert all(name.isprintable() for name in found.uncalled)


def test_a_global_alone_is_no_call():
    assert parse(pytorch(), zipped({"f": named("os", "system")}, {})).tensors == ()


@all_of(
    ("v", "words"),
    [
        (tensor("0", (4,), count=3), "ends at byte 16 of storage '0', which has 12"),
        (tensor("0", (3,), offset=1, count=3), "ends at byte 16"),
        (tensor("0", (2,), stride=(2,), count=2), "ends at byte 12"),
        (tensor("0", (2, 2), stride=(1,), count=3), "2 sizes and 1 strides"),
        (tensor("0", (-1,), count=3), "are no sizes"),
        (tensor("0", (True,), count=3), "are no sizes"),
        (tensor("0", (1,), stride=(-1,), count=3), "are no sizes"),
        (tensor("0", (1 << 62, 2), stride=(0, 0), count=3), r"more than 2\^63"),
        (tensor("0", (1,) * 65, count=3), "65 sizes"),
        (tensor("0", (3,), count=-3), "storage by '0' of -3"),
        (tensor("0", (3,), count=1 << 63), "of 9223372036854775808 elements"),
        (
            tensor("0", (3,), kind="Float7Storage"),
            "unknown storage torch.Float7Storage; known: Double",
        ),
        (tensor("0", (4,), count=4), "holds 12 bytes of storage '0', not 16"),
        (tensor("1", (3,)), "refers to the storage '1', which it does not hold"),
        (call("torch._utils", "_rebuild_tensor_v2", 1, 2), "other than a storage"),
        (call("torch._utils", "_rebuild_tensor_v2", storage("0", 3), 0), "other than a storage"),
        (
            call(
                "torch._utils",
                "_rebuild_tensor_v3",
                storage("0", 3),
                0,
                (1,),
                (1,),
                False,
                None,
                "x",
            ),
            "unknown dtype 'x'",
        ),
        (
            call(
                "torch._utils",
                "_rebuild_tensor_v3",
                storage("0", 3),
                0,
                (1,),
                (1,),
                False,
                None,
                named("torch", "e5m0"),
            ),
            "unknown dtype torch.e5m0",
        ),
        ([tensor("0", (3,)), tensor("0", (3,), kind="HalfStorage")], "the storage '0' two sizes"),
        (b"}(" + (text("a") + tensor("0", (3,))) * 2 + b"u", "two tensors called 'a'"),
        (value(("storage", 3)) + b"Q", "persistent id that PyTorch does not write"),
        (number(3) + b"Q", "persistent id that PyTorch does not write"),
        (b"]" * 200 + tensor("0", (3,)) + b"a" * 200, "nested more than 100 deep"),
        ({"x" * 5000: tensor("0", (3,))}, "name has 5,000"),
    ],
)
def test_hostile_tensors(v, words):
    refuses(zipped(v, {"0": 12}), words)


def test_a_list_that_contains_itself():
    assert parse(pytorch(), zipped(b"\x80\x02]q\x01h\x01a.", {})).tensors == ()


def test_a_tree_of_two_to_the_hundred_nodes():
    doubled = b"".join(b"q\x01h\x01h\x01\x86" for _ in range(90))
    found = parse(pytorch(), zipped(b"\x80\x02" + tensor("0", (3,)) + doubled + b".", {"0": 12}))
    assert len(found.tensors) == 2


@pytest.mark.slow
def test_pickles_without_end():
    loop = b"\x80\x02" + b"}" * (1 << 20) + b"}"
    refuses(zipped(loop + b".", {}), "stacks more than")
    refuses(zipped(b"\x80\x02" + b"N0" * 2_100_000 + b"N.", {}), "more than 2,000,000 instructions")


# Hostile zips


def patched(offset_of, struct_offset, code, new, file=None):
    file = bytearray(file or zip_model())
    struct.pack_into(code, file, file.rfind(offset_of) + struct_offset, new)
    return bytes(file)


@all_of(
    ("file", "words"),
    [
        (b"PK\x03\x04" + bytes(100), "no directory at its end"),
        (zip_model() + b"x", "something follows its directory"),
        (patched(b"PK\x05\x06", 10, "<H", 0xFFFF), "needs a zip64 record"),
        (patched(b"PK\x05\x06", 10, "<H", 4000), "for 4,000 entries"),
        (patched(b"PK\x05\x06", 10, "<H", 6), "broken zip directory at entry 5"),
        (patched(b"PK\x05\x06", 12, "<I", 1 << 30), "claims a zip directory of 1,073,741,824"),
        (patched(b"PK\x05\x06", 16, "<I", 5), "'archive/data.pkl' beyond its directory|no zip entry"),
        (patched(b"PK\x01\x02", 42, "<I", 1 << 31), "beyond its directory"),
        (patched(b"PK\x01\x02", 42, "<I", 3), "within another"),
        (patched(b"PK\x01\x02", 24, "<I", 0xFFFFFFFF), "without its zip64 sizes"),
        (zipped({}, {}, compression=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
        (zipped({}, {}, names=("other.pkl", "data")), "not of PyTorch"),
        (zipped({}, {}, root="a/b"), "not of PyTorch"),
        (zip_model().replace(b"archive/data.pkl", b"archive/data.pkx", 1), None),
        (zip_model().replace(b"PK\x03\x04", b"PK\x03\x05", 1), "neither a zip archive nor a pickle"),
    ],
)  # fmt: skip
def test_hostile_zips(file, words):
    if words is None:  # the directory counts, as everywhere; the local name is not looked at
        assert rows(parse(pytorch(), file)) == WANT
        return
    refuses(file, words)


def test_entries_twice():
    file = zipped({}, {"0": 4, "1": 4})
    refuses(file.replace(b"archive/data/1", b"archive/data/0"), "'archive/data/0' twice")


def test_a_zip_of_another_size_than_it_says():
    file = zip_model()
    refuses(file, "where its zip directory describes", size=len(file) + 1)
    refuses(b"junk" * 10 + file, "no zip entry where", plan=torch_zip)


# Hostile files of the old format


def test_legacy():
    refuses(legacy({}, {}, magic=3), "not one that torch.save wrote")
    refuses(legacy({}, {}, magic="x"), "not one that torch.save wrote")
    refuses(legacy({}, {}, protocol=1002), "has protocol 1002 of torch.save; known: 1001")
    refuses(legacy({}, {"0": (1, 4)}), "holds the storage '0', which nothing refers to")
    file = legacy(model(None), {"0": (6, 24), "1": (3, 6), "2": (4, 32)})
    refuses(file[:-1], "where its storages end at", size=len(file) - 1)
    refuses(b"nonsense " * 9, "begins with b'nons'")
    refuses(b"\x80\x02\xff", "is not a pickle: opcode 0xff at byte 2")
    refuses(b"", "begins with b''")
    refuses(bytes(257) + b"ustar" + bytes(300), "a tar checkpoint of PyTorch 0.1")
    refuses(b"GGUF" + bytes(100), "is a GGUF file")


# What else PyTorch writes, without PyTorch


def test_dtypes_that_have_no_storage_of_their_own():
    dtype, hooks = named("torch", "float8_e4m3fn"), call("collections", "OrderedDict")
    t = call(
        "torch._utils",
        "_rebuild_tensor_v3",
        storage("0", 12, "UntypedStorage"),
        2,
        (5, 2),
        (2, 1),
        False,
        hooks,
        dtype,
    )
    found = parse(pytorch(), zipped({"t": t}, {"0": 12}))
    assert (rows(found), found.tensors[0].begin) == ([("t", "float8_e4m3fn", (5, 2), 10)], 2)


def test_quantized_tensors_bring_their_scales():
    scales = (named("torch", "per_channel_affine"), tensor("1", (4,), kind="DoubleStorage"), 0)
    t = call(
        "torch._utils",
        "_rebuild_qtensor",
        storage("0", 8, "QInt8Storage"),
        0,
        (4, 2),
        (2, 1),
        scales,
        False,
    )
    found = parse(pytorch(), zipped({"w": t}, {"0": 8, "1": 32}))
    assert rows(found) == [("w", "int8", (4, 2), 8), ("w.1", "float64", (4,), 32)]
    bare = call(
        "torch._utils", "_rebuild_qtensor", storage("0", 8, "QInt8Storage"), 0, (4, 2), (2, 1)
    )
    assert len(parse(pytorch(), zipped({"w": bare}, {"0": 8})).tensors) == 1


def test_tensor_subclasses():
    plain = (
        tensor("0", (3,))
        .removesuffix(b"R")
        .replace(named("torch._utils", "_rebuild_tensor_v2"), b"", 1)
    )
    kept = call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        named("torch._utils", "_rebuild_tensor_v2"),
        named("my", "Tensor"),
        plain,
        {},
    )
    assert rows(parse(pytorch(), zipped({"t": kept}, {"0": 12}))) == [("t", "float32", (3,), 12)]
    wrapped = call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        named("torch._utils", "_rebuild_wrapper_subclass"),
        named("my", "T"),
        (1,),
        {"inner": tensor("0", (3,))},
    )
    found = parse(pytorch(), zipped({"t": wrapped}, {"0": 12}))
    assert (rows(found), found.uncalled) == ([("t.inner", "float32", (3,), 12)], ())
    odd = call("torch._tensor", "_rebuild_from_type_v2", 1, tensor("0", (3,)))
    assert parse(pytorch(), zipped(odd, {"0": 12})).uncalled == (
        "torch._tensor._rebuild_from_type_v2",
    )


def test_modules_parameters_and_odd_containers():
    def of(name, state):
        return named("m", name) + b")\x81" + value(state) + b"b"

    layer = of(
        "Linear", {"training": True, "_parameters": {"weight": tensor("0", (3,))}, "_modules": {}}
    )
    found = parse(pytorch(), zipped(of("Net", {"_modules": {"fc": layer}}), {"0": 12}))
    assert (rows(found)[0][0], found.uncalled) == ("fc.weight", ("m.Net", "m.Linear"))
    parameter = call("torch._utils", "_rebuild_parameter", tensor("0", (3,)), True, None)
    python_2 = call("collections", "OrderedDict", [["a", parameter], ("b", 1), [3]])
    copied = call("builtins", "dict", {"d": python_2})
    assert rows(parse(pytorch(), zipped(copied, {"0": 12})))[0][0] == "d.a"
    listed = named("m", "List") + b")\x81(" + tensor("0", (3,)) + b"e"
    assert rows(parse(pytorch(), zipped({"l": listed}, {"0": 12})))[0][0] == "l.0"
    mapped = named("m", "Dict") + b")\x81(" + text("k") + tensor("0", (3,)) + b"u"
    assert rows(parse(pytorch(), zipped({"d": mapped}, {"0": 12})))[0][0] == "d.k"
    keyed = b"}" + value((1, 2)) + tensor("0", (3,)) + b"s"
    assert rows(parse(pytorch(), zipped({"d": keyed}, {"0": 12})))[0][0] == "d.?"
    with_keywords = named("m", "C") + b")" + value({"k": tensor("0", (3,))}) + b"\x92"
    assert rows(parse(pytorch(), zipped({"c": with_keywords}, {"0": 12})))[0][0] == "c.1.k"
    called_twice = call("m", "f") + b")R"
    assert parse(
        pytorch(), zipped({"c": called_twice, "w": tensor("0", (3,))}, {"0": 12})
    ).uncalled == ("m.f",)
    attributes = call("collections", "OrderedDict") + value({"_metadata": {}}) + b"b"
    assert parse(pytorch(), zipped(attributes, {})).tensors == ()
    empty = named("torch._utils", "_rebuild_parameter") + b")R"
    refuses(zipped(empty, {}), "without running 'torch._utils._rebuild_parameter'")
    module = value(("module", named("m", "Net"), "net.py", "class Net: ...")) + b"Q)\x81"
    refuses(zipped(module, {}), "without running 'm.Net'")


def zip64(file, *, drop_record=False):
    """The same archive with its sizes and places in zip64 records, as PyTorch writes them."""
    end = file.rfind(b"PK\x05\x06")
    count, size, offset = struct.unpack_from("<HII", file, end + 10)
    raw, at, entries = file[offset : offset + size], 0, b""
    for _ in range(count):
        fields = list(struct.unpack_from("<4sHHHHHHIIIHHHHHII", raw, at))
        name = raw[at + 46 : at + 46 + fields[10]]
        at += 46 + fields[10] + fields[11] + fields[12]
        extra = b"\x99\x99\x02\x00xx" + struct.pack(
            "<HHQQQ", 1, 24, fields[9], fields[8], fields[16]
        )
        fields[8] = fields[9] = fields[16] = 0xFFFFFFFF
        fields[11] = len(extra)
        entries += struct.pack("<4sHHHHHHIIIHHHHHII", *fields) + name + extra
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(entries), offset
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, offset + len(entries), 1)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return file[:offset] + entries + (bytes(56) if drop_record else record) + locator + tail


def test_zip64():
    file = zip64(zip_model())
    found = parse(pytorch(len(file)), file)
    assert rows(found) == WANT
    assert found.file_bytes == len(file)
    refuses(zip64(zip_model(), drop_record=True), "its zip64 record is not before its end")


def test_compressed_storages_and_large_pickles():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("a/data.pkl", build_pickle({"w": tensor("0", (30,))}))
        z.writestr("a/data/0", bytes(120), zipfile.ZIP_DEFLATED)
    refuses(file.getvalue(), "storage '0' compressed")


def test_limits(monkeypatch):
    monkeypatch.setattr("weighbridge.models.formats.checkpoint.MAX_TENSORS", 2)
    refuses(zip_model(), "more than 2 tensors, our limit")
    monkeypatch.setattr("weighbridge.models.formats.pytorch.MAX_PICKLE", 10)
    refuses(zip_model(), "'archive/data.pkl' of more than 10 bytes, our limit")


def test_a_local_header_that_points_beyond_the_file():
    file = bytearray(zip_model())
    struct.pack_into("<H", file, 28, 0xFFFF)
    refuses(bytes(file), "ends within 'archive/data.pkl'")


def test_a_local_header_with_more_padding_than_expected():
    """Rebuilt with 5,000 bytes of extra field before data.pkl: one more read."""
    file, extra = zip_model(), b"FB" + struct.pack("<H", 5000) + bytes(5000)
    start = 30 + len("archive/data.pkl")
    head = bytearray(file[:start])
    struct.pack_into("<H", head, 28, len(extra))
    end = file.rfind(b"PK\x05\x06")
    offset = struct.unpack_from("<I", file, end + 16)[0]
    moved = bytearray(bytes(head) + extra + file[start:])
    at = offset + len(extra)
    for i in range(struct.unpack_from("<H", file, end + 10)[0]):
        name, more, comment = struct.unpack_from("<HHH", moved, at + 28)
        if i:
            struct.pack_into(
                "<I", moved, at + 42, struct.unpack_from("<I", moved, at + 42)[0] + len(extra)
            )
        at += 46 + name + more + comment
    struct.pack_into("<I", moved, moved.rfind(b"PK\x05\x06") + 16, offset + len(extra))
    found, reads = drive(torch_zip(len(moved)), bytes(moved))
    assert rows(found) == WANT
    assert len(reads.ranges) == 3


def test_lists_of_keys():
    refuses(
        legacy(model(None), {"0": (6, 24), "1": (3, 6), "2": (4, 32)}).replace(
            build_pickle(["0", "1", "2"]), build_pickle(["0", "0", "2"])
        ),
        "lists a storage twice",
    )
    refuses(legacy({}, {}).replace(build_pickle([]), build_pickle([None])), "that are no keys")
