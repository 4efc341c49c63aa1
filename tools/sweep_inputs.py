"""What a transformers class asks its `forward` for, made by name and sized by its config.

tokens     0, 1, 2, ... of the vocabulary, an end of sequence last; image tokens where a picture
           stands, as many as `get_image_features` gives rows
pictures   zeros of the config's side; patches and their grids where the class wants them so
sound      a second of samples, or the spectrogram that the encoder was made for
labels     what the head is trained on
"""

import inspect
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_iter, tree_map_only

BATCH, LENGTH = 2, 32
SAMPLES, FRAMES, BOXES = 8000, 4, 3
GRID = (1, 4, 4)  # of patches: time, height, width


class Asked:
    """A class's forward, with its config: `made` is what it is given."""

    def __init__(self, model: nn.Module, head: str) -> None:
        self.model = model
        self.config: Any = model.config
        self.names = set(inspect.signature(model.forward).parameters)
        self.head = head

    def find(self, *keys: str, default: Any = None) -> Any:
        """The first of `keys` that the config has, or a part of it, vision and audio first."""
        for part in self.parts():
            for key in keys:
                value = vars(part).get(key)
                if isinstance(value, int | list | tuple) and not isinstance(value, bool):
                    return value
        return default

    def parts(self) -> list[Any]:
        names = ("vision_config", "audio_config", "encoder", "encoder_config", "backbone_config")
        inner = [vars(self.config)[n] for n in names if vars(self.config).get(n) is not None]
        return [self.config, *inner]

    @property
    def text(self) -> Any:
        return self.config.get_text_config()

    def pictures(self) -> dict[str, Any]:
        """What the class is given of images."""
        made = {name: make(self) for name, make in PICTURES.items() if name in self.names}
        return {name: value for name, value in made.items() if value is not None}


def on(model: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """The same where the model is."""
    device = next(model.parameters()).device
    return dict(tree_map_only(torch.Tensor, lambda t: t.to(device), given))


def inputs(model: nn.Module, head: str) -> dict[str, torch.Tensor]:
    asked = Asked(model, head)
    made = {name: make(asked) for name, make in MAKERS.items() if name in asked.names}
    made |= asked.pictures()
    if head in LABELS:
        made |= LABELS[head](asked, made)
    return {k: v for k, v in made.items() if v is not None}


def _ids(asked: Asked) -> torch.Tensor:
    config = asked.text
    vocabulary = config.vocab_size if "vocab_size" in dir(config) else asked.config.vocab_size
    shape = (BATCH, 2, LENGTH) if asked.head == "multiple choice" else (BATCH, LENGTH)
    ids = (torch.arange(LENGTH) % min(100, vocabulary - 4) + 3).expand(shape).clone()
    end = _first(vars(config).get("eos_token_id"))
    if end is not None and end < vocabulary:
        ids[ids == end] = 3 if end != 3 else 4
        ids[..., -1] = end
    return _with_pictures(asked, ids)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _with_pictures(asked: Asked, ids: torch.Tensor) -> torch.Tensor:
    """Image tokens first, as many as the model makes rows of a picture."""
    token = _image_token(asked)
    look = getattr(asked.model, "get_image_features", None)
    if token is None or look is None:
        return ids
    wanted = set(inspect.signature(look).parameters)
    given = {k: v for k, v in asked.pictures().items() if k in wanted}
    with torch.no_grad():
        found = look(**on(asked.model, given))
    found = getattr(found, "pooler_output", found)
    rows = sum(t.numel() // t.shape[-1] for t in tree_iter(found) if isinstance(t, torch.Tensor))
    return torch.cat([torch.full((BATCH, rows // BATCH), token), ids], 1)


def _kinds(asked: Asked) -> torch.Tensor:
    """1 where an image token is."""
    return (_ids(asked) == _image_token(asked)).long()


def _image_token(asked: Asked) -> Any:
    known = vars(asked.config)
    return known.get("image_token_id", known.get("image_token_index"))


def _mask(asked: Asked) -> torch.Tensor | None:
    if "input_ids" not in asked.names:
        return None
    return torch.ones_like(_ids(asked))


def _decoder_ids(asked: Asked) -> torch.Tensor | None:
    """Return input ids of a decoder behind an encoder that reads something else."""
    if asked.head == "image and text" and "input_ids" in asked.names:
        return None
    return _ids(asked)[:, :16].contiguous()


def _pixels(asked: Asked) -> torch.Tensor:
    side = asked.find("image_size", "img_size", default=64)
    high, wide = (side, side) if isinstance(side, int) else tuple(side)[-2:]
    channels = asked.find("num_channels", "in_channels", "in_chans", default=3)
    if "image_grid_thw" in asked.names:
        patch, time = asked.find("patch_size"), asked.find("temporal_patch_size")
        return torch.ones(BATCH * prod(GRID), channels * time * patch**2)
    frames = asked.find("num_frames", "frames_per_clip") if asked.head == "video" else None
    pictures = frames or IMAGES.get(asked.config.model_type)
    middle = (pictures,) if pictures else ()
    return torch.ones(BATCH, *middle, channels, high, wide)


def _grid(asked: Asked) -> torch.Tensor:
    return torch.tensor([GRID] * BATCH)


def _sides(asked: Asked) -> torch.Tensor | None:
    """Before pictures were cut into tiles."""
    if asked.config.model_type not in IMAGES:
        return None
    side = asked.find("image_size")
    return torch.tensor([[side, side]] * BATCH)


def _samples(asked: Asked) -> torch.Tensor:
    mel = asked.find("num_mel_bins")
    if mel:
        return torch.zeros(BATCH, asked.find("max_length"), mel)
    return torch.zeros(BATCH, SAMPLES)


def _features(asked: Asked) -> torch.Tensor:
    bins = asked.find("num_mel_bins", "feature_size", "feature_projection_input_dim", default=80)
    frames = 2 * asked.find("max_source_positions", default=50)
    if "feature_projection_input_dim" in vars(asked.config) or "input_feat_per_channel" in vars(
        asked.config
    ):
        return torch.zeros(
            BATCH, frames, asked.find("feature_projection_input_dim", "input_feat_per_channel")
        )
    return torch.zeros(BATCH, bins, frames)


def _boxes(asked: Asked) -> torch.Tensor:
    return torch.zeros(BATCH, LENGTH, 4, dtype=torch.long)


MAKERS: dict[str, Callable[[Asked], torch.Tensor | None]] = {
    "input_ids": _ids,
    "attention_mask": _mask,
    "decoder_input_ids": _decoder_ids,
    "input_values": _samples,
    "input_features": _features,
    "bbox": _boxes,
    "mm_token_type_ids": _kinds,
}
PICTURES: dict[str, Callable[[Asked], torch.Tensor | None]] = {
    "pixel_values": _pixels,
    "image_grid_thw": _grid,
    "image_sizes": _sides,
}
# Pictures a sample where they have a dimension of their own: tiles, or several images
IMAGES = {"llava_next": 2, "llava_onevision": 2, "idefics3": 1}


def _same(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    ids = made.get("decoder_input_ids")
    ids = made.get("input_ids") if ids is None else ids
    return {} if ids is None or "labels" not in asked.names else {"labels": ids}


def _one(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    return {"labels": torch.zeros(BATCH, dtype=torch.long)} if "labels" in asked.names else {}


def _each(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    return {"labels": torch.zeros_like(made["input_ids"])}


def _span(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    at = torch.zeros(BATCH, dtype=torch.long)
    return {"start_positions": at, "end_positions": at}


def _words(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    return {"labels": torch.ones(BATCH, 5, dtype=torch.long)}


def _areas(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    pixels = made["pixel_values"]
    return {"labels": torch.zeros(BATCH, *pixels.shape[-2:], dtype=torch.long)}


def _objects(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    one = {
        "class_labels": torch.zeros(BOXES, dtype=torch.long),
        "boxes": torch.full((BOXES, 4), 0.5),
    }
    return {"labels": [one] * BATCH}


def _return_loss(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    return {"return_loss": True} if "return_loss" in asked.names else {}


LABELS: dict[str, Callable[[Asked, dict[str, Any]], dict[str, Any]]] = {
    "causal LM": _same,
    "masked LM": _same,
    "seq2seq": _same,
    "image and text": _same,
    "speech": _same,
    "sequence": _one,
    "multiple choice": _one,
    "image": _one,
    "video": _one,
    "audio": _one,
    "token": _each,
    "question": _span,
    "CTC": _words,
    "segmentation": _areas,
    "objects": _objects,
    "contrastive": _return_loss,
}
