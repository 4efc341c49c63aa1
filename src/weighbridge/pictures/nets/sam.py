"""SAM and SAM 2: an image encoder, and a decoder that makes masks from the image and a prompt.

One mask in three versions for each picture, without points. SAM 2's memory of a video is not here.

Source: transformers 5.23 models/{sam,sam2}/modeling_*.py.
"""

from collections.abc import Iterator
from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.convnets import RELU, floored, turned
from weighbridge.pictures.nets.detr import flattened, shown
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

MASKS = 3  # masks per prompt
SCALES = 8  # a mask's width is the image features' divided by this
PADDED = 2  # tokens of an empty prompt: an absent point, and another


# ---- what both have


def norm_first(n: NetPlace, name: str, x: Value) -> Value:
    """Return a LayerNorm of `x` over channels, which are its first dimension."""
    y = n.layer_norm(name, turned(x), dense=False)
    return y.view(*x.shape)


def feed(n: NetPlace, x: Value, sizes: tuple[int, int, int], keeps: str = RELU) -> Value:
    """Return SamFeedForward of `x`. `sizes`: inner width, output width, number of linears."""
    inner, out, depth = sizes
    y = n.linear("proj_in", x, inner).act(keeps)
    for number in range(depth - 2):
        y = (n / "layers").linear(str(number), y, inner).act(keeps)
    return n.linear("proj_out", y, out)


def window_sides(height: int, breadth: int, side: int) -> tuple[int, int]:
    return -(-height // side) * side, -(-breadth // side) * side


def parted(x: Value, side: int) -> Value:
    """Return the windows of a padded picture (window_partition)."""
    batch, height, breadth, width = x.shape
    tall, wide = window_sides(height, breadth, side)
    whole = x.resized(batch, tall, wide, width)
    return whole.copy(batch * (tall // side) * (wide // side), side, side, width)


def put_together(x: Value, side: int, batch: int, height: int, breadth: int) -> Value:
    """window_unpartition"""
    tall, wide = window_sides(height, breadth, side)
    whole = x.copy(batch, tall, wide, x.shape[-1])
    if (tall, wide) == (height, breadth):
        return whole
    return whole.part(batch, height, breadth, x.shape[-1]).copy()


# ---- the mask decoder


def attention(n: NetPlace, q: Value, k: Value, v: Value, c: ComponentConfig, rate: int) -> Value:
    inner = c.hidden_size // rate
    q, k, v = (
        n.linear("q_proj", q, inner),
        n.linear("k_proj", k, inner),
        n.linear("v_proj", v, inner),
    )
    y = attend(q, k, v, c.num_attention_heads)
    return n.linear("out_proj" if _first(n) else "o_proj", y, c.hidden_size)


def _first(n: NetPlace) -> bool:
    return not n.run.cls.startswith("Sam2")


def two_way(
    n: NetPlace, c: ComponentConfig, queries: Value, keys: Value, points: Value, places: Value
) -> tuple[Value, Value]:
    """Return (tokens, picture) after a block: tokens attend to themselves and the picture, the
    picture to the tokens."""
    rate = c.attention_downsample_rate or 2
    if n.number == 0:
        queries = attention(n / "self_attn", queries, queries, queries, c, 1)
    else:
        q = queries + points
        queries = queries + attention(n / "self_attn", q, q, queries, c, 1)
    queries = n.layer_norm("layer_norm1", queries)
    q, k = queries + points, keys + places
    y = attention(n / "cross_attn_token_to_image", q, k, keys, c, rate)
    queries = n.layer_norm("layer_norm2", queries + y)
    if _first(n):
        y = (n / "mlp").linear("lin1", queries, c.mlp_dim).act(RELU)
        y = (n / "mlp").linear("lin2", y, c.hidden_size)
    else:
        y = feed(n / "mlp", queries, (c.mlp_dim, c.hidden_size, c.num_hidden_layers))
    queries = n.layer_norm("layer_norm3", queries + y)
    q, k = queries + points, keys + places
    y = attention(n / "cross_attn_image_to_token", k, q, queries, c, rate)
    keys = n.layer_norm("layer_norm4", keys + y)
    return queries, keys


def masked(
    n: NetPlace, c: ComponentConfig, image: Value, places: Value, finer: list[Value]
) -> Value:
    """Return SamMaskDecoder's masks; SAM 2 adds the `finer` features to the upscaled map."""
    batch, width, height, breadth = image.shape
    count = c.num_multimask_outputs + 1
    names = [("iou_token", 1), ("mask_tokens", count)]
    names = names if _first(n) else [("obj_score_token", 1), *names]
    tables = [n.value(f"{name}.weight", rows, width, kind="embedding") for name, rows in names]
    tokens = cat(tables, 0).resized(batch, sum(rows for _, rows in names), width)
    if not _first(n):
        tokens = cat([tokens, tokens.run.new(batch, PADDED, width)])
    keys = flattened((image + image.run.new(1, width, 1, 1)).resized(*image.shape))
    queries, places, inside = tokens, flattened(places.resized(*places.shape)), n / "transformer"
    for number in range(c.num_hidden_layers):
        queries, keys = two_way(inside / "layers" / number, c, queries, keys, tokens, places)
    q, k = queries + tokens, keys + places
    y = attention(
        inside / "final_attn_token_to_image", q, k, keys, c, c.attention_downsample_rate or 2
    )
    queries = inside.layer_norm("layer_norm_final_attn", queries + y)
    del q, k, y
    picture = keys.view(batch, width, height, breadth)
    fine = n.transposed("upscale_conv1", picture, width // 4, 2)
    fine = fine + finer[1].resized(*finer[1].shape) if finer else fine
    fine = norm_first(n, "upscale_layer_norm", fine).act()
    fine = n.transposed("upscale_conv2", fine, width // SCALES, 2)
    fine = (fine + finer[0].resized(*finer[0].shape) if finer else fine).act()
    token = queries.part(batch, 1, width)
    hyper = cat(
        [
            feed(n / "output_hypernetworks_mlps" / i, token, (width, width // SCALES, 3))
            for i in range(count)
        ]
    )
    area = prod(fine.shape[2:])
    out = hyper.matmul(fine.view(batch, width // SCALES, area), area)
    sizes = c.iou_head_hidden_dim, count, c.iou_head_depth
    feed(n / "iou_prediction_head", token, sizes)
    if not _first(n):
        feed(n / "pred_obj_score_head", token, (width, 1, 3))
    return out.part(batch, MASKS, area)


def prompts(n: NetPlace, c: ComponentConfig) -> None:
    """Declare SamPromptEncoder's weights, which a picture without points and masks does not use."""
    width, channels = c.hidden_size, c.mask_input_channels
    few, m = channels // 4, n / "mask_embed"
    for name, out, inside, side in (
        ("conv1", few, 1, 2),
        ("conv2", channels, few, 2),
        ("conv3", width, channels, 1),
    ):
        m.param(f"{name}.weight", out, inside, side, side, kind="conv")
        m.param(f"{name}.bias", out, kind="bias")
    for name, size in (("layer_norm1", few), ("layer_norm2", 4 * few)):
        for one in ("weight", "bias"):
            m.param(f"{name}.{one}", size, kind="norm")
    for name in ("no_mask_embed", "not_a_point_embed"):
        n.param(f"{name}.weight", 1, width, kind="embedding")
    points = c.num_point_embeddings
    if _first(n):
        for number in range(points):
            n.param(f"point_embed.{number}.weight", 1, width, kind="embedding")
    else:
        n.param("point_embed.weight", points, width, kind="embedding")


# ---- SAM


def rel_positions(n: NetPlace, q: Value, heads: int, side: int, side_of_table: int) -> Value:
    """Return position scores, as large as attention's: the sum of those of rows and of columns."""
    count, area, width = q.shape
    sums = []
    for axis in "hw":
        table = n.value(f"rel_pos_{axis}", 2 * side_of_table - 1, width // heads)
        far = table.resized(side, side, width // heads)
        sums.append(
            q.view(count * heads, area, width // heads)
            .matmul(far, side)
            .view(count * heads, side, side, side)
        )
    rows, columns = sums
    return rows.view(count * heads, area, side, 1) + columns.view(count * heads, area, 1, side)


def sam_attention(n: NetPlace, x: Value, c: ComponentConfig, side_of_table: int) -> Value:
    """Return attention of `x`; `side_of_table`: places per side in the position tables."""
    count, side, _, width = x.shape
    heads, area = c.num_attention_heads, side * side
    qkv = n.linear("qkv", x, 3 * width, c.qkv_bias)
    rows = (qkv.copy() if count > 1 else qkv).view(count, area, 3 * width)
    q, k, v = rows.chunk(3)
    if not c.use_rel_pos:
        y = attend(q, k, v, heads)
    else:
        bias = rel_positions(n, q, heads, side, side_of_table).copy(count, heads, area, area)
        y = attend(q, k, v, heads, bias=bias)
        del bias
    return n.linear("proj", y.copy(*x.shape), width)


def sam_layer(n: NetPlace, x: Value, c: ComponentConfig, window: int) -> Value:
    y = n.layer_norm("layer_norm1", x)
    y = parted(y, window) if window else y
    y = sam_attention(n / "attn", y, c, window or c.image_size // c.patch_size)
    y = put_together(y, window, *x.shape[:3]) if window else y
    x = x + y
    y = n.layer_norm("layer_norm2", x)
    h = (n / "mlp").linear("lin1", y, c.mlp_dim or int(c.hidden_size * c.mlp_ratio))
    h = h.act()
    return x + (n / "mlp").linear("lin2", h, c.hidden_size)


def sam_encoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    d, out = c.hidden_size, c.output_channels
    x = turned((n / "patch_embed").conv("projection", x, d, c.patch_size, c.patch_size, 0))
    if c.use_abs_pos:
        x = x + n.value("pos_embed", 1, *[c.image_size // c.patch_size] * 2, d)
    for p in (n / "layers" / number for number in range(c.num_hidden_layers)):
        window = 0 if p.number in c.global_attn_indexes else c.window_size
        x = p.block(lambda p, x, window=window: sam_layer(p, x, c, window), x)
    batch, height, breadth, _ = x.shape
    neck, y = n / "neck", x.view(batch, d, height, breadth)
    y = norm_first(neck, "layer_norm1", neck.conv("conv1", y, out, 1, bias=False))
    return norm_first(neck, "layer_norm2", neck.conv("conv2", y, out, 3, bias=False))


def sam(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    vision, prompt = c.below("vision_config"), c.below("prompt_encoder_config")
    n.param("shared_image_embedding.positional_embedding", 2, vision.num_pos_feats)
    image = sam_encoder(n / "vision_encoder", vision, shown(n, s))
    prompts(n / "prompt_encoder", prompt)
    places = image.run.new(*image.shape)
    return masked(n / "mask_decoder", c.below("mask_decoder_config"), image, places, [])


# ---- SAM 2


def pooled(x: Value) -> Value:
    """Return a 2 x 2 max pooling (do_pool)."""
    batch, height, breadth, width = x.shape
    y = floored(x.view(batch, width, height, breadth))
    return y.view(batch, height // 2, breadth // 2, width)


def hiera_attention(n: NetPlace, x: Value, out: int, heads: int, *, pools: bool) -> Value:
    """Return Sam2MultiScaleAttention, which also computes scores between the heads of each
    place."""
    batch, height, breadth, _ = x.shape
    q, k, v = n.linear("qkv", x, 3 * out).chunk(3)
    q, k, v = (one.view(batch, height * breadth, out) for one in (q, k, v))
    scaled = q * 1.0
    scores = scaled.view(batch, height * breadth, heads, out // heads).matmul(
        k.view(batch, height * breadth, out // heads, heads), heads
    )
    del scaled
    scores = scores.to(FLOAT32).softmax().like(q)
    if pools:
        q = pooled(q.view(batch, height, breadth, out))
        height, breadth = q.shape[1:3]
        q = q.view(batch, height * breadth, out)
    y = attend(q, k, v, heads)
    del scores
    return n.linear("proj", y.view(batch, height, breadth, out), out)


def hiera_block(n: NetPlace, x: Value, c: ComponentConfig, stage: int, first: bool) -> Value:
    """Sam2MultiScaleBlock"""
    out, heads = c.embed_dim_per_stage[stage], c.num_attention_heads_per_stage[stage]
    entering = first and stage > 0
    window = c.window_size_per_stage[stage - 1 if entering else stage]
    window = 0 if n.number in c.global_attention_blocks else window
    pools = entering and stage <= c.num_query_pool_stages
    residual = x
    y = n.layer_norm("layer_norm1", x)
    if x.shape[-1] != out:
        residual = n.linear("proj", y, out)
        residual = pooled(residual) if pools else residual
    y = parted(y, window) if window else y
    attended = hiera_attention(n / "attn", y, out, heads, pools=pools)
    y = attended
    if window:
        y = put_together(attended, window // 2 if pools else window, *residual.shape[:3])
    x = residual + y
    y = n.layer_norm("layer_norm2", x)
    x = x + feed(n / "mlp", y, (int(out * c.mlp_ratio), out, 2), "input")
    del attended
    return x


def positions(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """Return position embeddings: those of the picture, interpolated, plus those of a window."""
    side, d = c.window_size_per_stage[0], c.hidden_size
    table = n.value("pos_embed", 1, d, *c.window_positional_embedding_background_size)
    windows = n.value("pos_embed_window", 1, d, side, side)
    places = table.resized(1, d, *x.shape[1:3])
    places = places + windows.resized(*places.shape)
    return places.view(1, *x.shape[1:])


def hiera(n: NetPlace, c: ComponentConfig, x: Value) -> list[Value]:
    """Return the outputs of the stages of Sam2HieraDetModel."""
    d = c.hidden_size
    x = (n / "patch_embed").conv(
        "projection",
        x,
        d,
        tuple(c.patch_kernel_size),
        tuple(c.patch_stride),
        tuple(c.patch_padding),
    )
    x = turned(x)
    x = x + positions(n, c, x)
    states, numbers = [], iter(range(sum(c.blocks_per_stage)))
    for stage, depth in enumerate(c.blocks_per_stage):
        for number in range(depth):
            p = n / "blocks" / next(numbers)
            x = p.block(lambda p, x, s=stage, f=number == 0: hiera_block(p, x, c, s, f), x)
        states.append(x)
    return states


def sines(x: Value) -> Value:
    """Return sine positions as wide as `x`: one half for columns, one for rows."""
    batch, width, height, breadth = x.shape
    run, half = x.run, width // 2
    parts = [run.new(batch, height, breadth, half) for _ in range(2)]
    for _ in range(2):
        waves = [run.new(batch, height, breadth, half // 2) for _ in range(2)]
        parts = [parts[1], run.new(batch, height, breadth, half)]
        del waves
    return run.new(*x.shape)


def pyramid(n: NetPlace, c: ComponentConfig, states: list[Value]) -> Iterator[tuple[Value, Value]]:
    """Yield (features, positions) of Sam2VisionNeck from coarse to fine."""
    last, width = len(states) - 1, c.fpn_hidden_size
    before: Value | None = None
    for level in range(last, -1, -1):
        batch, height, breadth, inside = states[level].shape
        y = states[level].view(batch, inside, height, breadth)
        y = (n / "convs").conv(str(last - level), y, width, 1)
        if level in c.fpn_top_down_levels and before is not None:
            y = y + before.to(FLOAT32).upsample().like(y)
        before = y
        yield y, sines(y)


def sam2(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    vision, prompt = c.below("vision_config"), c.below("prompt_encoder_config")
    for name in ("shared_image_embedding", "prompt_encoder.shared_embedding"):
        n.buffer(f"{name}.positional_embedding", 2, prompt.hidden_size // 2)
    encoder, decoder = n / "vision_encoder", n / "mask_decoder"
    states = hiera(encoder / "backbone", vision.below("backbone_config"), shown(n, s))
    levels = list(pyramid(encoder / "neck", vision, states))
    del states
    features = [one for one, _ in levels[-vision.num_feature_levels :]][::-1]
    positions_of_levels = [places for _, places in levels[-vision.num_feature_levels :]]
    del levels
    width = vision.fpn_hidden_size
    features[0] = decoder.conv("conv_s0", features[0], width // SCALES, 1)
    features[1] = decoder.conv("conv_s1", features[1], width // 4, 1)
    features[-1] = features[-1] + n.value("no_memory_embedding", 1, 1, width).reshaped(width, 1, 1)
    prompts(n / "prompt_encoder", prompt)
    places = n.run.new(*features[-1].shape)
    out = masked(decoder, c.below("mask_decoder_config"), features[-1], places, features[:-1])
    del positions_of_levels
    return out


PROGRAMS = {"SamModel": sam, "Sam2Model": sam2}
