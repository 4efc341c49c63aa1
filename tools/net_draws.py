"""Classes whose programs are recorded (tools/record_net.py): configs and inputs drawn small, and
what each form needs and calls its sizes."""

import random
import sys
from functools import partial
from math import prod
from types import SimpleNamespace
from typing import Any

import torch

OWN = torch.bfloat16
# What SimpleTuner sends to host memory of attention: inputs of what its module does, or all that
# the kernel saves
SENDING = {
    "Krea2Transformer2DModel": "inputs",
    "Kandinsky5Transformer3DModel": "all",
    "LTX2VideoTransformer3DModel": "inputs",
}


def kandinsky5(rnd: random.Random) -> Any:
    heads, axes = rnd.choice((2, 3, 5)), [2 * rnd.randint(1, 6) for _ in range(3)]
    s = {
        "batch": rnd.randint(2, 5),
        "frames": rnd.randint(2, 7),
        "height": 2 * rnd.randint(3, 11),
        "width": 2 * rnd.randint(3, 11),
        "text": rnd.randint(6, 31),
    }
    c = {
        "in_visual_dim": rnd.randint(3, 19),
        "out_visual_dim": rnd.randint(3, 19),
        "in_text_dim": rnd.randint(11, 50),
        "in_text_dim2": rnd.randint(11, 50),
        "time_dim": rnd.randint(10, 60),
        "model_dim": heads * sum(axes),
        "ff_dim": rnd.randint(50, 90),
        "num_text_blocks": rnd.randint(3, 6),
        "num_visual_blocks": rnd.randint(3, 7),
        "axes_dims": axes,
        "visual_cond": rnd.random() < 0.5,
    }
    channels = c["in_visual_dim"] * (2 if c["visual_cond"] else 1) + c["visual_cond"]
    lets = {"channels": channels, "head": sum(axes)}
    inputs = {
        "hidden_states": (s["batch"], s["frames"], s["height"], s["width"], channels),
        "encoder_hidden_states": (s["batch"], s["text"], c["in_text_dim"]),
        "timestep": (s["batch"],),
        "pooled_projections": (s["batch"], c["in_text_dim2"]),
        "visual_rope_pos": [
            torch.arange(s["frames"]),
            torch.arange(s["height"] // 2),
            torch.arange(s["width"] // 2),
        ],
        "text_rope_pos": torch.arange(s["text"]),
    }
    return c, s, lets, inputs


def omnigen(rnd: random.Random) -> Any:
    kv, head = rnd.choice((2, 3, 5)), 4 * rnd.randint(2, 7)
    heads = kv * rnd.choice((1, 2, 3))
    s = {
        "batch": rnd.randint(2, 5),
        "height": 2 * rnd.randint(3, 11),
        "width": 2 * rnd.randint(3, 11),
        "text": rnd.randint(6, 31),
    }
    c = {
        "in_channels": rnd.randint(3, 9),
        "hidden_size": heads * head,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": rnd.randint(40, 99),
        "num_layers": rnd.randint(3, 7),
        "vocab_size": rnd.randint(100, 200),
        "pos_embed_max_size": rnd.randint(13, 23),
        "time_step_dim": 2 * rnd.randint(7, 40),
        "pad_token_id": 0,
    }
    factors = {"long_factor": [1.0] * (head // 2), "short_factor": [1.0] * (head // 2)}
    tokens = s["text"] + 1 + s["height"] * s["width"] // 4
    inputs = {
        "hidden_states": (s["batch"], c["in_channels"], s["height"], s["width"]),
        "timestep": (s["batch"],),
        "input_ids": torch.zeros((s["batch"], s["text"]), dtype=torch.long),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": torch.ones((s["batch"], tokens, tokens)),
        "position_ids": torch.arange(tokens).expand(s["batch"], tokens),
    }
    return {**c, "rope_scaling": factors}, s, {"sequence": tokens, "head": head}, inputs


def sized(rnd: random.Random) -> dict[str, int]:
    """Sizes of a step."""
    return {
        "batch": rnd.randint(2, 5),
        "height": 2 * rnd.randint(3, 11),
        "width": 2 * rnd.randint(3, 11),
        "text": rnd.randint(6, 31),
    }


def krea2(rnd: random.Random) -> Any:
    kv, axes, text_kv = (
        rnd.choice((2, 3, 5)),
        [2 * rnd.randint(1, 6) for _ in range(3)],
        rnd.choice((2, 3, 5)),
    )
    s = {"batch": rnd.randint(2, 5), "tokens": rnd.randint(20, 99), "text": rnd.randint(6, 31)}
    c = {
        "in_channels": rnd.randint(3, 19),
        "attention_head_dim": sum(axes),
        "num_attention_heads": kv * rnd.choice((2, 3, 4)),
        "num_key_value_heads": kv,
        "intermediate_size": rnd.randint(40, 99),
        "num_layers": rnd.randint(3, 7),
        "timestep_embed_dim": 2 * rnd.randint(7, 40),
        "text_hidden_dim": text_kv * 4 * rnd.randint(7, 19),
        "num_text_layers": rnd.randint(3, 9),
        "text_num_attention_heads": text_kv,
        "text_num_key_value_heads": text_kv,
        "text_intermediate_size": rnd.randint(40, 99),
        "num_layerwise_text_blocks": rnd.randint(3, 7),
        "num_refiner_text_blocks": rnd.randint(3, 7),
        "axes_dims_rope": axes,
    }
    inputs = {
        "hidden_states": (s["batch"], s["tokens"], c["in_channels"]),
        "encoder_hidden_states": (
            s["batch"],
            s["text"],
            c["num_text_layers"],
            c["text_hidden_dim"],
        ),
        "timestep": (s["batch"],),
        "position_ids": (s["text"] + s["tokens"], 3),
    }
    return c, s, {}, inputs


def cogview4(rnd: random.Random) -> Any:
    s = sized(rnd)
    head = 8 * rnd.randint(1, 5)
    c = {
        "in_channels": rnd.randint(3, 9),
        "out_channels": rnd.randint(3, 9),
        "num_layers": rnd.randint(3, 7),
        "attention_head_dim": head,
        "num_attention_heads": rnd.choice((2, 3, 5)),
        "text_embed_dim": rnd.randint(11, 50),
        "time_embed_dim": rnd.randint(11, 50),
        "condition_dim": 2 * rnd.randint(7, 40),
        "rope_axes_dim": [256, 256],
    }
    inputs = {
        "hidden_states": (s["batch"], c["in_channels"], s["height"], s["width"]),
        "encoder_hidden_states": (s["batch"], s["text"], c["text_embed_dim"]),
        "timestep": (s["batch"],),
        "original_size": (s["batch"], 2),
        "target_size": (s["batch"], 2),
        "crop_coords": (s["batch"], 2),
    }
    return c, s, {"inner": head * c["num_attention_heads"]}, inputs


def ernie(rnd: random.Random) -> Any:
    s, axes, heads = sized(rnd), [2 * rnd.randint(1, 6) for _ in range(3)], rnd.choice((2, 3, 5))
    c = {
        "hidden_size": heads * sum(axes),
        "num_attention_heads": heads,
        "num_layers": rnd.randint(3, 7),
        "ffn_hidden_size": rnd.randint(40, 99),
        "in_channels": rnd.randint(3, 9),
        "out_channels": rnd.randint(3, 9),
        "text_in_dim": rnd.randint(11, 50),
        "rope_axes_dim": axes,
    }
    inputs = {
        "hidden_states": (s["batch"], c["in_channels"], s["height"] // 2, s["width"] // 2),
        "timestep": (s["batch"],),
        "text_bth": (s["batch"], s["text"], c["text_in_dim"]),
        "text_lens": torch.full((s["batch"],), s["text"]),
    }
    sequence = s["text"] + s["height"] * s["width"] // 4
    return c, s, {"sequence": sequence, "head": sum(axes)}, inputs


def ideogram(rnd: random.Random) -> Any:
    s = {"batch": rnd.randint(2, 5), "tokens": rnd.randint(20, 99), "text": rnd.randint(6, 31)}
    sections = [rnd.randint(1, 9) for _ in range(3)]
    c = {
        "in_channels": rnd.randint(3, 19),
        "num_layers": rnd.randint(3, 7),
        "attention_head_dim": 2 * rnd.randint(3 * max(sections), 40),
        "num_attention_heads": rnd.choice((2, 3, 5)),
        "intermediate_size": rnd.randint(40, 99),
        "adaln_dim": rnd.randint(11, 50),
        "llm_features_dim": rnd.randint(11, 50),
        "mrope_section": sections,
    }
    sequence = s["text"] + s["tokens"]
    ids = torch.zeros((s["batch"], sequence), dtype=torch.long)
    inputs = {
        "hidden_states": (s["batch"], sequence, c["in_channels"]),
        "timestep": (s["batch"],),
        "encoder_hidden_states": (s["batch"], sequence, c["llm_features_dim"]),
        "position_ids": ids[..., None].repeat(1, 1, 3),
        "segment_ids": ids,
        "indicator": ids.clone(),
    }
    width = c["attention_head_dim"] * c["num_attention_heads"]
    return c, s, {"sequence": sequence, "inner": width}, inputs


def ltx(rnd: random.Random, *, each: bool = False) -> Any:
    s = {"batch": rnd.randint(2, 5), "tokens": rnd.randint(20, 99), "text": rnd.randint(6, 31)}
    c = {
        "in_channels": rnd.randint(3, 19),
        "out_channels": rnd.randint(3, 19),
        "num_attention_heads": rnd.choice((2, 5, 7)),
        "attention_head_dim": 2 * rnd.randint(5, 13),
        "num_layers": rnd.randint(3, 7),
        "caption_channels": rnd.randint(11, 50),
    }
    if c["attention_head_dim"] % 6 == 0:  # widths of three axes leave something over
        c["attention_head_dim"] += 2
    width = c["attention_head_dim"] * c["num_attention_heads"]
    c["cross_attention_dim"] = width
    inputs = {
        "hidden_states": (s["batch"], s["tokens"], c["in_channels"]),
        "encoder_hidden_states": (s["batch"], s["text"], c["caption_channels"]),
        "timestep": (s["batch"], s["tokens"]) if each else (s["batch"],),
        "encoder_attention_mask": (s["batch"], s["text"]),
        "video_coords": torch.zeros((s["batch"], 3, s["tokens"])),
    }
    sizes = {"num_frames": 1, "height": 1, "width": 1}
    return c, s, {"inner": width, "sixth": width // 6, "left": width % 6}, {**inputs, **sizes}


def pixart(rnd: random.Random, *, additional: bool = False) -> Any:
    s = sized(rnd)
    c = {
        "num_attention_heads": rnd.choice((2, 3, 5)),
        "attention_head_dim": 12 * rnd.randint(1, 7),
        "in_channels": rnd.randint(3, 9),
        "out_channels": rnd.randint(3, 9),
        "num_layers": rnd.randint(3, 7),
        "caption_channels": rnd.randint(11, 50),
        "use_additional_conditions": additional,
    }
    width = c["attention_head_dim"] * c["num_attention_heads"]
    c["cross_attention_dim"] = width
    conditions = {"resolution": None, "aspect_ratio": None}
    if additional:
        conditions = {
            "resolution": torch.zeros((s["batch"], 2), dtype=OWN),
            "aspect_ratio": torch.zeros((s["batch"], 1), dtype=OWN),
        }
    inputs = {
        "hidden_states": (s["batch"], c["in_channels"], s["height"], s["width"]),
        "encoder_hidden_states": (s["batch"], s["text"], c["caption_channels"]),
        "encoder_attention_mask": (s["batch"], s["text"]),
        "timestep": (s["batch"],),
        "added_cond_kwargs": conditions,
    }

    def ready(module: Any) -> None:
        """Positions are those of a picture as large as the class was made for."""
        embed, (rows, columns) = module.pos_embed, (s["height"] // 2, s["width"] // 2)
        embed.height, embed.width = rows, columns
        embed.pos_embed = torch.zeros((1, rows * columns, width))

    return c, s, {"inner": width, "third": width // 3}, {**inputs, "ready": ready}


def axes(head: int) -> dict[str, int]:
    """Widths of positions: height's and width's, and what is left for time."""
    third = head // 6 * 2
    return {"third": third, "rest": head - 2 * third}


AXES = "let sixth attention_head_dim/6", "let third 2*sixth", "let rest attention_head_dim+-2*third"


def nearest(code: Any) -> None:
    """Stand in for torchvision's resize, which calls torch's."""

    def resize(x: Any, sides: Any, interpolation: str) -> Any:
        return torch.nn.functional.interpolate(x, size=sides, mode=interpolation)

    modes = SimpleNamespace(NEAREST="nearest")
    functions = SimpleNamespace(resize=resize)
    code.transforms = SimpleNamespace(functional=functions, InterpolationMode=modes)


# extra_pos_embed_type, concat_padding_mask, use_crossattn_projection, pictures beside the text, a
# time of each frame
COSMOS = (
    ("learnable", True, False, False, False),
    ("learnable", False, False, False, False),
    *((None, True, False, False, each) for each in (False, True)),
    *((None, False, False, False, each) for each in (False, True)),
    *((None, True, True, seen, each) for seen in (False, True) for each in (False, True)),
)


def cosmos(
    rnd: random.Random, extra: str | None, padded: bool, crossed: bool, seen: bool, each: bool
) -> Any:
    s = {**sized(rnd), "frames": rnd.randint(2, 7)}
    head = 2 * rnd.randint(7, 23)
    c = {
        "in_channels": rnd.randint(3, 9),
        "out_channels": rnd.randint(3, 9),
        "num_attention_heads": rnd.choice((2, 3, 5)),
        "attention_head_dim": head,
        "num_layers": rnd.randint(3, 7),
        "mlp_ratio": rnd.choice((2, 3, 4, 5)),
        "text_embed_dim": rnd.randint(11, 50),
        "adaln_lora_dim": rnd.randint(11, 50),
        "max_size": [rnd.randint(8, 19), 2 * rnd.randint(20, 29), 2 * rnd.randint(13, 19)],
        "concat_padding_mask": padded,
        "extra_pos_embed_type": extra,
        "use_crossattn_projection": crossed,
        "crossattn_proj_in_channels": rnd.randint(11, 50),
    }
    c["encoder_hidden_states_channels"] = c["text_embed_dim"]
    width = head * c["num_attention_heads"]
    text = c["crossattn_proj_in_channels"] if crossed else c["text_embed_dim"]
    inputs = {
        "hidden_states": (s["batch"], c["in_channels"], s["frames"], s["height"], s["width"]),
        "encoder_hidden_states": (s["batch"], s["text"], text),
        "timestep": (s["batch"], 1, s["frames"], 1, 1) if each else (s["batch"],),
        "fps": 24,
    }
    if seen:
        c |= {"img_context_dim_in": rnd.randint(11, 50), "img_context_dim_out": width}
        c["img_context_num_tokens"] = rnd.randint(5, 30)
        shape = s["batch"], c["img_context_num_tokens"], c["img_context_dim_in"]
        text_and_pictures = inputs["encoder_hidden_states"], shape
        inputs["encoder_hidden_states"] = tuple(
            torch.zeros(x, dtype=OWN) for x in text_and_pictures
        )
    if padded:
        inputs["padding_mask"] = (1, 1, 8 * s["height"], 8 * s["width"])
        inputs["ready"] = lambda module: nearest(sys.modules[type(module).__module__])
    lets = {"inner": width, "inside": width * c["mlp_ratio"], "channels": c["in_channels"] + padded}
    return c, s, lets | axes(head), inputs


def sana(
    rnd: random.Random, *, guidance: bool, norm: bool, video: bool = False, each: bool = False
) -> Any:
    patch, sides = 2 if video else 1, (rnd.randint(3, 9), rnd.randint(3, 9))
    s = {"batch": rnd.randint(2, 5), "text": rnd.randint(6, 31)}
    c = {
        "in_channels": rnd.randint(3, 9),
        "out_channels": rnd.randint(3, 9),
        "num_attention_heads": rnd.choice((2, 3, 5)),
        "attention_head_dim": 2 * rnd.randint(7, 23),
        "num_layers": rnd.randint(3, 7),
        "num_cross_attention_heads": rnd.choice((2, 3, 5)),
        "cross_attention_head_dim": rnd.randint(5, 19),
        "caption_channels": rnd.randint(11, 50),
        "mlp_ratio": rnd.choice((2, 3, 4, 5)),
        "patch_size": [1, 2, 2] if video else 1,
        "guidance_embeds": guidance,
        "qk_norm": "rms_norm_across_heads" if norm else None,
    }
    width = c["attention_head_dim"] * c["num_attention_heads"]
    c["cross_attention_dim"] = width
    lets = {"inner": width, "inside": c["mlp_ratio"] * width}
    s |= {"height": sides[0] * patch, "width": sides[1] * patch}
    shape: tuple[int, ...] = (s["batch"], c["in_channels"], s["height"], s["width"])
    if video:
        s["frames"] = rnd.randint(2, 7)
        lets |= axes(c["attention_head_dim"])
        shape = (*shape[:2], s["frames"], *shape[2:])
    tokens = s.get("frames", 1) * prod(sides)
    inputs = {
        "hidden_states": shape,
        "encoder_hidden_states": (s["batch"], s["text"], c["caption_channels"]),
        "encoder_attention_mask": (s["batch"], s["text"]),
        "timestep": (s["batch"], tokens) if each else (s["batch"],),
    }
    if guidance:
        inputs["guidance"] = (s["batch"],)
    return c, s, lets, inputs


def cogvideox(
    rnd: random.Random,
    *,
    rotary: bool,
    learned: bool = False,
    pairs: bool = False,
    ofs: bool = False,
) -> Any:
    """`pairs`: two frames are one patch. What has learnt positions has them for its own sizes."""
    s, count = sized(rnd), rnd.randint(2, 7)
    rows, frames = s["height"] * s["width"] // 4, count * (2 if pairs else 1)
    ratio, places = rnd.randint(3, 5), [rnd.randint(3, 9) for _ in range(3)]
    c = {
        "num_attention_heads": rnd.choice((2, 3, 5)),
        "attention_head_dim": 16 * rnd.randint(1, 4),
        "in_channels": rnd.randint(3, 9),
        "out_channels": rnd.randint(3, 9),
        "time_embed_dim": rnd.randint(11, 50),
        "text_embed_dim": rnd.randint(11, 50),
        "num_layers": rnd.randint(3, 7),
        "sample_frames": ratio * (places[0] - 1) + 1,
        "sample_height": 2 * places[1],
        "sample_width": 2 * places[2],
        "temporal_compression_ratio": ratio,
        "max_text_seq_length": rnd.randint(6, 31),
        "use_rotary_positional_embeddings": rotary,
        "use_learned_positional_embeddings": learned,
        "patch_size_t": 2 if pairs else None,
        "patch_bias": not pairs,
    }
    width = c["num_attention_heads"] * c["attention_head_dim"]
    tokens = count * rows
    lets = {"inner": width, "tokens": tokens}
    if learned:
        lets["places"] = places[0]
    if not pairs:
        s["frames"] = frames
    inputs = {
        "hidden_states": (s["batch"], frames, c["in_channels"], s["height"], s["width"]),
        "encoder_hidden_states": (s["batch"], s["text"], c["text_embed_dim"]),
        "timestep": (s["batch"],),
    }
    if pairs:
        lets["pairs"] = count
    if rotary:
        shape = tokens, c["attention_head_dim"]
        inputs["image_rotary_emb"] = [torch.zeros(shape), torch.zeros(shape)]
    if ofs:
        c["ofs_embed_dim"], inputs["ofs"] = c["time_embed_dim"], (1,)

    def ready(module: Any) -> None:
        """Positions are those of a video as large as the class was made for; those that are learnt
        stay in its tree as they are."""
        embed = module.patch_embed
        embed.sample_height, embed.sample_width = s["height"], s["width"]
        embed.sample_frames = (frames - 1) * ratio + 1
        if not rotary or learned:
            made = torch.zeros((1, s["text"] + tokens, width), dtype=OWN)
            embed.__dict__["pos_embedding"] = made

    return c, s, lets, {**inputs, "ready": ready}


def ltx2(rnd: random.Random, *, split: bool, third: bool = False, each: bool = False) -> Any:
    """`third`: as LTX-2.3 is."""
    s = {"batch": rnd.randint(2, 5), "tokens": rnd.randint(20, 99), "text": rnd.randint(6, 31)}
    heads, sounds = rnd.choice((2, 5, 7)), rnd.randint(20, 99)
    c = {
        "in_channels": rnd.randint(3, 19),
        "out_channels": rnd.randint(3, 19),
        "audio_in_channels": rnd.randint(3, 19),
        "audio_out_channels": rnd.randint(3, 19),
        "num_attention_heads": heads,
        "audio_num_attention_heads": heads if split else heads + 1,
        "attention_head_dim": 6 * rnd.randint(2, 4)
        + rnd.choice((2, 4)),  # axes leave something over
        "audio_attention_head_dim": 2 * rnd.randint(5, 13),
        "num_layers": rnd.randint(3, 7),
        "caption_channels": rnd.randint(11, 50),
        "rope_type": "split" if split else "interleaved",
    }
    flags = "gated_attn", "audio_gated_attn", "cross_attn_mod", "audio_cross_attn_mod"
    c |= dict.fromkeys(flags, third) | {"use_prompt_embeddings": not third, "perturbed_attn": third}
    width, narrow = (
        c[f"{one}num_attention_heads"] * c[f"{one}attention_head_dim"] for one in ("", "audio_")
    )
    c |= {"cross_attention_dim": width, "audio_cross_attention_dim": narrow}
    texts = (width, narrow) if third else (c["caption_channels"],) * 2
    inputs = {
        "hidden_states": (s["batch"], s["tokens"], c["in_channels"]),
        "audio_hidden_states": (s["batch"], sounds, c["audio_in_channels"]),
        "encoder_hidden_states": (s["batch"], s["text"], texts[0]),
        "audio_encoder_hidden_states": (s["batch"], s["text"], texts[1]),
        "timestep": (s["batch"], s["tokens"]) if each else (s["batch"],),
        "audio_timestep": (s["batch"],),
        "sigma": (s["batch"],),
        "encoder_attention_mask": (s["batch"], s["text"]),
        "audio_encoder_attention_mask": (s["batch"], s["text"]),
        "video_coords": torch.zeros((s["batch"], 3, s["tokens"], 2)),
        "audio_coords": torch.zeros((s["batch"], 1, sounds, 2)),
    }
    lets = {"inner": width, "narrow": narrow, "sounds": sounds}
    return c, s, lets | {"sixth": width // 6, "left": width % 6}, inputs


CLASSES = {
    "OmniGenTransformer2DModel": [
        (
            omnigen,
            (
                "needs patch_size=2",
                "let sequence text+1+height*width/4",
                "let head hidden_size/num_attention_heads",
            ),
        )
    ],
    "Kandinsky5Transformer3DModel": [
        (
            kandinsky5,
            (
                "needs attention_type=regular patch_size=1,2,2",
                "let channels in_visual_dim+in_visual_dim*visual_cond+visual_cond",
                "let head axes_dims.0+axes_dims.1+axes_dims.2",
            ),
        )
    ],
    "Krea2Transformer2DModel": [
        (
            krea2,
            (
                "needs num_attention_heads!=num_key_value_heads",
                "needs text_num_attention_heads=text_num_key_value_heads",
                "let tokens frames*height*width/4",
            ),
        )
    ],
    "CogView4Transformer2DModel": [
        (
            cogview4,
            (
                "needs patch_size=2",
                "let inner num_attention_heads*attention_head_dim",
            ),
        )
    ],
    "ErnieImageTransformer2DModel": [
        (
            ernie,
            (
                "needs patch_size=1 text_in_dim!=hidden_size",
                "let sequence text+height*width/4",
                "let head hidden_size/num_attention_heads",
            ),
        )
    ],
    "Ideogram4Transformer2DModel": [
        (
            ideogram,
            (
                "let tokens frames*height*width/4",
                "let sequence text+tokens",
                "let inner attention_head_dim*num_attention_heads",
            ),
        )
    ],
    "LTXVideoTransformer3DModel": [
        (
            partial(ltx, each=each),
            (
                f"needs token_times={each}",
                "let tokens frames*height*width",
                "let inner attention_head_dim*num_attention_heads",
                "let sixth inner/6",
                "let left inner+-6*sixth",
            ),
        )
        for each in (False, True)
    ],
    "PixArtTransformer2DModel": [
        (
            partial(pixart, additional=additional),
            (
                "needs patch_size=2 attention_bias=True caption_channels!=None",
                f"needs use_additional_conditions!={not additional}",
                *(("needs sample_size=128",) if additional else ()),
                "let inner attention_head_dim*num_attention_heads",
                "let third inner/3",
            ),
        )
        for additional in (True, False)
    ],
    "CosmosTransformer3DModel": [
        (
            partial(cosmos, extra=extra, padded=padded, crossed=crossed, seen=seen, each=each),
            (
                f"needs patch_size=1,2,2 extra_pos_embed_type={extra}",
                f"needs concat_padding_mask={padded} use_crossattn_projection={crossed}",
                f"needs token_times={each} img_context_dim_in{'!' if seen else ''}=None",
                "let channels in_channels+concat_padding_mask",
                "let inner attention_head_dim*num_attention_heads",
                "let inside attention_head_dim*num_attention_heads*mlp_ratio",
                *AXES,
            ),
        )
        for extra, padded, crossed, seen, each in COSMOS
    ],
    "SanaTransformer2DModel": [
        (
            partial(sana, guidance=guidance, norm=norm),
            (
                f"needs guidance_embeds={guidance} token_times=False attention_bias=False",
                "needs patch_size=1",
                f"needs qk_norm{'!' if norm else ''}=None interpolation_scale=None",
                "let inner attention_head_dim*num_attention_heads",
                "let inside attention_head_dim*num_attention_heads*mlp_ratio",
            ),
        )
        for guidance in (False, True)
        for norm in (False, True)
    ],
    "SanaVideoTransformer3DModel": [
        (
            partial(sana, guidance=False, norm=True, video=True, each=each),
            (
                f"needs guidance_embeds=False token_times={each} attention_bias=False",
                "needs qk_norm!=None patch_size=1,2,2",
                "let inner attention_head_dim*num_attention_heads",
                "let inside attention_head_dim*num_attention_heads*mlp_ratio",
                *AXES,
            ),
        )
        for each in (False, True)
    ],
    "CogVideoXTransformer3DModel": [
        (
            partial(cogvideox, rotary=rotary, learned=learned, pairs=pairs, ofs=ofs),
            (
                "needs patch_size=2 attention_bias=True",
                f"needs use_rotary_positional_embeddings={rotary}",
                f"needs use_learned_positional_embeddings={learned}",
                f"needs patch_size_t={2 if pairs else None} patch_bias={not pairs}",
                f"needs ofs_embed_dim{'!' if ofs else ''}=None",
                "let inner attention_head_dim*num_attention_heads",
                *(
                    ("let more frames+1", "let pairs more/2", "let tokens pairs*height*width/4")
                    if pairs
                    else ("let tokens frames*height*width/4",)
                ),
                *(
                    (
                        "let before sample_frames+-1",
                        "let places before/temporal_compression_ratio+1",
                    )
                    if learned
                    else ()
                ),
            ),
        )
        for rotary, learned, pairs, ofs in (
            (False, False, False, False),
            (True, False, False, False),
            (True, True, False, False),
            (True, False, True, False),
            (True, False, True, True),
        )
    ],
    "LTX2VideoTransformer3DModel": [
        (
            partial(ltx2, split=split, third=third, each=each),
            (
                f"needs rope_type={'split' if split else 'interleaved'} token_times={each}",
                f"needs cross_attn_mod={third} audio_cross_attn_mod={third}",
                f"needs gated_attn={third} audio_gated_attn={third}",
                f"needs use_prompt_embeddings={not third}",
                "needs use_keyframes_abs_pos_embedding=False use_prompt_adaln_single=True",
                "needs ff_bias=True audio_ff_bias=True",
                *(("needs num_attention_heads=audio_num_attention_heads",) if split else ()),
                "let tokens frames*height*width",
                "let seconds 400*frames+-326",  # 24 frames of each are 25 of sound, and rounded
                "let sounds seconds/48",
                "let inner attention_head_dim*num_attention_heads",
                "let narrow audio_attention_head_dim*audio_num_attention_heads",
                "let sixth inner/6",
                "let left inner+-6*sixth",
            ),
        )
        for split, third in ((False, False), (True, False), (True, True))
        for each in (False, True)
    ],
}
