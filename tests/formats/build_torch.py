"""Writes PyTorch checkpoints, right and wrong ones, opcode by opcode, without torch."""

import io
import struct
import zipfile


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def value(v):
    """Opcodes of a plain value; bytes are opcodes already."""
    if isinstance(v, bytes):
        return v
    if isinstance(v, str):
        return text(v)
    if isinstance(v, bool | int):
        return number(v)
    if isinstance(v, tuple):
        return b"(" + b"".join(map(value, v)) + b"t"
    if isinstance(v, list):
        return b"](" + b"".join(map(value, v)) + b"e"
    if isinstance(v, dict):
        return b"}(" + b"".join(value(k) + value(x) for k, x in v.items()) + b"u"
    return {None: b"N"}[v]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def call(module, name, *arguments):
    return named(module, name) + value(arguments) + b"R"


def storage(key, count, kind="FloatStorage", *more):
    return value(("storage", named("torch", kind), key, "cpu", count, *more)) + b"Q"


def tensor(key, shape, *, count=None, kind="FloatStorage", offset=0, stride=None, view=()):
    strides, step = [], 1
    for n in reversed(shape):
        strides.insert(0, step)
        step *= n
    count = step if count is None else count
    hooks = call("collections", "OrderedDict")
    stride = tuple(strides) if stride is None else stride
    store = storage(key, count, kind, *view)
    return call(
        "torch._utils", "_rebuild_tensor_v2", store, offset, tuple(shape), stride, False, hooks
    )


def pickle(v, protocol=2):
    return b"\x80" + bytes([protocol]) + value(v) + b"."


def zipped(v, storages, root="archive", names=("data.pkl", "data"), compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as z:
        z.writestr(
            f"{root}/{names[0]}", v if isinstance(v, bytes) and v.endswith(b".") else pickle(v)
        )
        for key, nbytes in storages.items():
            z.writestr(f"{root}/{names[1]}/{key}", bytes(nbytes))
        z.writestr(f"{root}/version", "3\n")
    return file.getvalue()


MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True}


def legacy(v, storages, magic=MAGIC, protocol=1001):
    """`storages` are elements and bytes of each by key."""
    head = pickle(magic) + pickle(protocol) + pickle(SYSTEM)
    body = v if isinstance(v, bytes) and v.endswith(b".") else pickle(v)
    data = b"".join(
        struct.pack("<q", count) + bytes(nbytes) for _, (count, nbytes) in sorted(storages.items())
    )
    return head + body + pickle(sorted(storages)) + data


def model(*view):
    """`view` is what the old format adds to a persistent id: None."""
    state = {0: {"step": 3, "exp_avg": tensor("2", (2, 2), kind="LongStorage", view=view)}}
    return {
        "w": tensor("0", (2, 3), view=view),
        "b": tensor("1", (3,), kind="HalfStorage", view=view),
        "tied": tensor("0", (2, 3), view=view),
        "opt": {"state": state, "lr": [None, True]},
    }


def zip_model():
    return zipped(model(), {"0": 24, "1": 6, "2": 32})


def legacy_model():
    return legacy(model(None), {"0": (6, 24), "1": (3, 6), "2": (4, 32)})
