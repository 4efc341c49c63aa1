"""Writes GGUF files, right and wrong ones, without any library."""

import struct

from weighbridge.base.dtypes import GGML_BY_NAME
from weighbridge.base.units import align_up

CODES = {
    "u8": (0, "B"),
    "i8": (1, "b"),
    "u16": (2, "H"),
    "i16": (3, "h"),
    "u32": (4, "I"),
    "i32": (5, "i"),
}
CODES |= {"f32": (6, "f"), "bool": (7, "?"), "u64": (10, "Q"), "i64": (11, "q"), "f64": (12, "d")}
NUMBER_OF = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q8_0": 8,
    "Q4_K": 12,
    "Q6_K": 14,
    "BF16": 30,
    "MXFP4": 39,
}


class Writer:
    def __init__(self, order="<", version=3):
        self.order, self.version = order, version
        self.pairs, self.infos, self.at, self.alignment = [], [], 0, 32

    def pack(self, code, *values):
        return struct.pack(self.order + code, *values)

    def string(self, text):
        raw = text if isinstance(text, bytes) else text.encode()
        return self.pack("Q", len(raw)) + raw

    def value(self, kind, value):
        if kind == "str":
            return self.pack("I", 8) + self.string(value)
        number, code = CODES[kind]
        return self.pack("I" + code, number, value)

    def array(self, kind, values):
        if kind == "str":
            return self.pack("IIQ", 9, 8, len(values)) + b"".join(map(self.string, values))
        number, code = CODES[kind]
        return self.pack(f"IIQ{len(values)}{code}", 9, number, len(values), *values)

    def nested(self, depth):
        return self.pack("I", 9) + self.pack("IQ", 9, 1) * depth + self.pack("IQ", 0, 0)

    def key(self, name, raw):
        self.pairs.append(self.string(name) + raw)
        return self

    def align(self, alignment):
        self.alignment = alignment
        return self.key("general.alignment", self.value("u32", alignment))

    def tensor(self, name, dims, kind="F32", offset=None, nbytes=0):
        """`dims` in ggml's order; `kind` a number or a name."""
        number = kind if isinstance(kind, int) else NUMBER_OF[kind]
        at = self.at if offset is None else offset
        info = (
            self.string(name)
            + self.pack("I", len(dims))
            + b"".join(self.pack("Q", d) for d in dims)
        )
        self.infos.append(info + self.pack("IQ", number, at))
        if isinstance(kind, str):
            d, nbytes = GGML_BY_NAME[kind], 1
            for n in dims:
                nbytes *= n
            nbytes = nbytes // d.block * d.nbytes
        self.at = align_up(at + nbytes, self.alignment)
        return self

    def head(self, tensors=None, keys=None):
        counts = self.pack(
            "IQQ",
            self.version,
            len(self.infos) if tensors is None else tensors,
            len(self.pairs) if keys is None else keys,
        )
        return b"GGUF" + counts + b"".join(self.pairs) + b"".join(self.infos)

    def file(self, **counts):
        head = self.head(**counts)
        return head + bytes(align_up(len(head), self.alignment) - len(head) + self.at)


def small(order="<", version=3):
    w = Writer(order, version)
    w.key("general.architecture", w.value("str", "llama")).align(64)
    w.key("llama.block_count", w.value("u32", 2))
    w.key("llama.attention.head_count_kv", w.array("i32", [8, 4]))
    w.key("llama.rope.freq_base", w.value("f32", 10000.0))
    w.key("tokenizer.ggml.tokens", w.array("str", ["a", "b", "<s>"]))
    w.key("tokenizer.ggml.scores", w.array("f32", [0.5] * 3))
    w.tensor("token_embd.weight", [64, 3], "Q8_0").tensor("blk.0.attn_q.weight", [256, 2], "Q4_K")
    return w.tensor("output_norm.weight", [64]).tensor("blk.0.exps.weight", [32, 2, 3], "Q4_0")
