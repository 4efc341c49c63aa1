"""What Gemma 4 adds: an input of its own for every layer, and experts beside the dense feed.

Source: llama.cpp 0c1e57098 src/models/gemma4.cpp.
"""

from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.tensor import I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.build import Build


def inputs_of_layers(b: Build, x: GgmlTensor) -> GgmlTensor | None:
    """[size, tokens, layers]: rows of a second embedding and a projection of the first, added."""
    table, projection = (
        b.weight("per_layer_token_embd.weight"),
        b.weight("per_layer_model_proj.weight"),
    )
    if table is None or projection is None:
        return None
    layers, tokens = len(b.net.layers), b.step.tokens
    size = table.ne[0] // layers
    ids = b.entry("per_layer_tokens", g.entry(I32, tokens))
    rows = g.like("scale", g.reshape(g.get_rows(table, ids), size, layers, tokens))
    b.graph.expand(rows)
    y = g.reshape(g.like("scale", g.mul_mat(projection, x)), size, layers, tokens)
    y = b.norm(y, b.weight("per_layer_proj_norm.weight"), None)
    total = g.like("scale", b.add(y, rows))
    return g.cont(g.permute(total, 0, 2, 1, 3))


def with_input(b: Build, layer: int, x: GgmlTensor, every: GgmlTensor | None) -> GgmlTensor:
    """The layer's own input, gated by what the layer gives."""
    if every is None or b.of(layer, "inp_gate") is None:
        return x
    gate = g.like("unary", g.mul_mat(b.must(layer, "inp_gate"), x))
    input_of_layer = g.view(every, every.ne[:2], (every.nb[1],))
    y = g.mul_mat(b.must(layer, "proj"), g.like("mul", gate, input_of_layer))
    return b.add(x, b.norm(y, b.of(layer, "post_norm"), None, layer))
