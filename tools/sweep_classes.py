"""One training step of a transformers class that is built from a tiny config.

config    the class's own defaults, with what SMALL names replaced wherever it occurs
inputs    what `forward` asks for, by name, sized by the config; labels where the head has them
loss      the class's own, else the mean of everything that it returns
"""

from collections.abc import Iterator
from typing import Any

import torch
from tools.sweep_inputs import inputs
from torch.utils._pytree import tree_iter, tree_map_only

LAYERS, HEADS, WIDTH, HEAD, EXPERTS, VOCABULARY = 2, 4, 64, 16, 4, 1024
SIDE, PATCH = 64, 16
MOST_LAYERS = 4  # where they are of different kinds

SMALL: dict[str, Any] = {
    # depth
    "num_hidden_layers": LAYERS,
    "num_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_encoder_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "encoder_num_hidden_layers": LAYERS,
    "depth": LAYERS,
    # width
    "hidden_size": WIDTH,
    "d_model": WIDTH,
    "n_embd": WIDTH,
    "dim": WIDTH,
    "embed_dim": WIDTH,
    "emb_dim": WIDTH,
    "projection_dim": WIDTH,
    "word_embed_proj_dim": WIDTH,
    "embedding_size": WIDTH,
    "out_hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "moe_intermediate_size": WIDTH,
    "shared_expert_intermediate_size": WIDTH,
    "ffn_dim": 2 * WIDTH,
    "encoder_ffn_dim": 2 * WIDTH,
    "decoder_ffn_dim": 2 * WIDTH,
    "d_ff": 2 * WIDTH,
    "n_inner": 2 * WIDTH,
    "hidden_dim": 2 * WIDTH,
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 16,
    # heads
    "num_attention_heads": HEADS,
    "n_head": HEADS,
    "n_heads": HEADS,
    "num_heads": HEADS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "head_dim": HEAD,
    "global_head_dim": HEAD,
    "d_kv": HEAD,
    "num_global_key_value_heads": 1,
    "num_key_value_heads": 2,
    "mrope_section": [2, 3, 3],
    # MLA
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": HEAD,
    "qk_rope_head_dim": HEAD,
    "v_head_dim": HEAD,
    # experts
    "num_experts": EXPERTS,
    "num_local_experts": EXPERTS,
    "n_routed_experts": EXPERTS,
    "moe_num_experts": EXPERTS,
    "num_experts_per_tok": 2,
    "num_selected_experts": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    # state spaces and mixtures with attention
    "state_size": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": HEAD,
    "linear_value_head_dim": HEAD,
    "time_step_rank": 8,
    "chunk_size": 8,
    "mamba_chunk_size": 8,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "num_kv_shared_layers": 0,
    # sequences, windows
    "max_position_embeddings": 128,
    "n_positions": 128,
    "sliding_window": 16,
    "max_source_positions": 50,
    "max_target_positions": 64,
    # images
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_queries": 10,
}
# What does not fit SMALL: sizes that other sizes of the same config fix, and switches of heads
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blip-2": {"num_query_tokens": 8, "image_token_index": 900},
    "codegen": {"rotary_dim": 8},
    "data2vec-vision": {"hidden_size": 256},
    "deepseek_v2": {"topk_method": "greedy", "num_experts_per_tok": 2},
    "depth_anything": {"neck_hidden_sizes": [16, 32, 64, 64], "reassemble_hidden_size": WIDTH},
    "dinov2": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
    "donut-swin": {"embed_dim": 48, "image_size": 224},
    "dpt": {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]},
    "efficientnet": {"hidden_dim": 2560},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16},
    "florence_vision": {"patch_size": [7, 3, 3, 3]},
    "gemma3": {"mm_tokens_per_image": 4, "image_token_index": 900},
    "gpt2": {"pad_token_id": 0},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "hunyuan_v1_moe": {"head_dim": HEAD},
    "instructblip": {"num_query_tokens": 8, "image_token_index": 900},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "llama": {"pad_token_id": 0},
    "llava_onevision": {"image_grid_pinpoints": [[SIDE, SIDE]]},
    "llava_next": {"image_grid_pinpoints": [[SIDE, SIDE]]},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "mask2former": {"backbone_config": {"embed_dim": 48, "image_size": 224}},
    "nemotron": {"head_dim": HEAD, "num_key_value_heads": 2},
    "perceiver": {"num_latents": 16, "num_self_attends_per_block": 2},
    "qwen2_vl": {"vision_config": {"hidden_size": WIDTH, "embed_dim": WIDTH}},
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": WIDTH},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [4, 8],
        "axial_pos_embds_dim": [16, 48],
        "attn_layers": ["local", "lsh"],
        "num_buckets": 2,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "rwkv": {"attention_hidden_size": WIDTH},
    "siglip_text_model": {"projection_size": WIDTH},
    "siglip_vision_model": {"projection_dim": WIDTH},
    "swin": {"embed_dim": 48, "image_size": 224, "num_heads": [3, 6, 12, 24]},
    "swin2sr": {"embed_dim": 96, "num_heads": [6, 6], "depths": [1, 1]},
    "swinv2": {"embed_dim": 48, "image_size": 256, "num_heads": [3, 6, 12, 24]},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
    "xlnet": {"d_head": HEAD},
    "xmod": {"default_language": "en_XX"},
}
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
OWN |= {name: {"rope_parameters": SECTIONS} for name in ("qwen2_vl_text", "qwen2_5_vl_text")}
DROPPED = frozenset(("out_features", "out_indices", "transformers_version", "architectures"))
TOKENS = ("token_id", "token_index", "_token", "token_ids")


def tiny(cls: Any) -> Any:
    """A config of `cls` with SMALL sizes, those of its parts as well."""
    raw = _shrunk(cls().to_dict())
    own = OWN.get(cls.model_type, {})
    return cls(**_over(raw, own))


def _over(raw: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    for key, value in own.items():
        inner = raw.get(key)
        raw[key] = _over(inner, value) if isinstance(value, dict) and inner else value
    return raw


def _shrunk(raw: dict[str, Any]) -> dict[str, Any]:
    own = OWN.get(str(raw.get("model_type")), {})
    small: dict[str, Any] = {}
    for key, value in raw.items():
        if key in DROPPED:
            continue
        if isinstance(value, dict) and key not in ("id2label", "label2id"):
            small[key] = _shrunk(value)
        elif _is_count(value) and key.endswith(TOKENS):
            small[key] = value if value < VOCABULARY else VOCABULARY - 2 - len(key)
        elif key in SMALL:
            small[key] = _fit(key, value, raw)
        else:
            small[key] = value
    _depths(raw, small)
    return _over(small, own)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fit(key: str, value: Any, raw: dict[str, Any]) -> Any:
    small = SMALL[key]
    if isinstance(value, list):
        if isinstance(small, list):
            return small
        return [small] * len(value) if key in ("image_size", "patch_size") else value
    if not _is_count(value) or value < small:
        return value
    if key == "num_key_value_heads" and value == raw.get("num_attention_heads"):
        return HEADS
    return small


def _depths(raw: dict[str, Any], small: dict[str, Any]) -> None:
    """Lists with one entry a layer: one layer of each kind, and LAYERS at least."""
    for depth in ("num_hidden_layers", "num_layers", "n_layer"):
        count = raw.get(depth)
        if not _is_count(count):
            continue
        lists = {k: v for k, v in raw.items() if isinstance(v, list) and len(v) == count > LAYERS}
        kept = _kinds(list(lists.values()), count)
        if lists:
            small[depth] = len(kept)
            small |= {k: [v[i] for i in kept] for k, v in lists.items()}
        if raw.get("per_layer_config"):
            own = {int(k): v for k, v in small["per_layer_config"].items()}
            small["per_layer_config"] = {n: own[i] for n, i in enumerate(kept) if i in own}


def _kinds(lists: list[list[Any]], count: int) -> list[int]:
    """The first layer of each of the first kinds, LAYERS at least."""
    first: dict[tuple[str, ...], int] = {}
    for i in range(count):
        first.setdefault(tuple(str(v[i]) for v in lists), i)
    kept = sorted(first.values())[:MOST_LAYERS]
    return kept if len(kept) >= LAYERS else list(range(LAYERS))


HEADS_OF = """
causal LM: LlamaForCausalLM MistralForCausalLM Qwen3ForCausalLM Gemma2ForCausalLM
    Gemma3ForCausalLM Phi3ForCausalLM OlmoForCausalLM GPT2LMHeadModel GPTNeoXForCausalLM
    GPTJForCausalLM OPTForCausalLM BloomForCausalLM FalconForCausalLM MptForCausalLM
    StableLmForCausalLM CohereForCausalLM SmolLM3ForCausalLM Gemma3nForCausalLM ApertusForCausalLM
    GPTBigCodeForCausalLM XLNetLMHeadModel ReformerModelWithLMHead MixtralForCausalLM
    Qwen3MoeForCausalLM OlmoeForCausalLM GptOssForCausalLM PhimoeForCausalLM GraniteMoeForCausalLM
    DeepseekV2ForCausalLM DeepseekV3ForCausalLM MiniCPM3ForCausalLM Glm4MoeLiteForCausalLM
    MambaForCausalLM Mamba2ForCausalLM FalconMambaForCausalLM RwkvForCausalLM
    JambaForCausalLM BambaForCausalLM FalconH1ForCausalLM Qwen3NextForCausalLM
    RecurrentGemmaForCausalLM Lfm2ForCausalLM NemotronHForCausalLM
    GraniteMoeHybridForCausalLM MiniMaxForCausalLM
masked LM: BertForMaskedLM RobertaForMaskedLM DebertaV2ForMaskedLM ModernBertForMaskedLM
    DistilBertForMaskedLM ElectraForMaskedLM AlbertForMaskedLM LongformerForMaskedLM
    BigBirdForMaskedLM FNetForMaskedLM IBertForMaskedLM NystromformerForMaskedLM XmodForMaskedLM
    EsmForMaskedLM
seq2seq: T5ForConditionalGeneration BartForConditionalGeneration PegasusForConditionalGeneration
    LEDForConditionalGeneration LongT5ForConditionalGeneration M2M100ForConditionalGeneration
    SwitchTransformersForConditionalGeneration ProphetNetForConditionalGeneration
    T5GemmaForConditionalGeneration
sequence: BertForSequenceClassification LlamaForSequenceClassification
    GPT2ForSequenceClassification BartForSequenceClassification FunnelForSequenceClassification
token: BertForTokenClassification LayoutLMForTokenClassification
question: RobertaForQuestionAnswering ElectraForQuestionAnswering
multiple choice: BertForMultipleChoice XLNetForMultipleChoice
image: ViTForImageClassification SwinForImageClassification Swinv2ForImageClassification
    ConvNextForImageClassification ResNetForImageClassification BeitForImageClassification
    Dinov2ForImageClassification LevitForImageClassification MobileViTForImageClassification
    PvtV2ForImageClassification EfficientNetForImageClassification
    PerceiverForImageClassificationLearned CvtForImageClassification
video: VideoMAEForVideoClassification TimesformerForVideoClassification
    VivitForVideoClassification
objects: DetrForObjectDetection DeformableDetrForObjectDetection
    YolosForObjectDetection
segmentation: SegformerForSemanticSegmentation DPTForSemanticSegmentation
    MobileNetV2ForSemanticSegmentation
features: DPTForDepthEstimation GLPNForDepthEstimation Mask2FormerForUniversalSegmentation
    MaskFormerForInstanceSegmentation Swin2SRForImageSuperResolution ViTMAEForPreTraining
contrastive: CLIPModel SiglipModel ChineseCLIPModel AltCLIPModel
audio: Wav2Vec2ForSequenceClassification ASTForAudioClassification WhisperForAudioClassification
CTC: Wav2Vec2ForCTC HubertForCTC WavLMForCTC SEWDForCTC Wav2Vec2BertForCTC
speech: WhisperForConditionalGeneration Speech2TextForConditionalGeneration
    MoonshineForConditionalGeneration
image and text: LlavaForConditionalGeneration LlavaNextForConditionalGeneration
    LlavaOnevisionForConditionalGeneration Qwen2VLForConditionalGeneration
    Qwen2_5_VLForConditionalGeneration Qwen3VLForConditionalGeneration
    Gemma3ForConditionalGeneration PaliGemmaForConditionalGeneration
    Idefics3ForConditionalGeneration InternVLForConditionalGeneration
    Blip2ForConditionalGeneration GitForCausalLM
    AyaVisionForConditionalGeneration VisionEncoderDecoderModel Florence2ForConditionalGeneration
"""


def _classes() -> Iterator[tuple[str, str]]:
    head = ""
    for line in HEADS_OF.strip().splitlines():
        before, colon, names = line.rpartition(":")
        head = before if colon else head
        for name in names.split():
            yield name, head


CLASSES = dict(_classes())


def step(name: str, device: str) -> int:
    """Parameters of the model, after forward, backward and a step of AdamW."""
    import transformers

    cls = getattr(transformers, name)
    model = cls(tiny(cls.config_class)).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    given = tree_map_only(torch.Tensor, lambda t: t.to(device), inputs(model, CLASSES[name]))
    out = model(**given)
    loss(out).backward()
    optimizer.step()
    optimizer.zero_grad()
    return sum(p.numel() for p in model.parameters())


def loss(out: Any) -> torch.Tensor:
    """The class's own, else of everything that it returns."""
    own: torch.Tensor | None = out.get("loss")
    if own is not None:
        return own
    parts = [t for t in tree_iter(tuple(out.values())) if isinstance(t, torch.Tensor)]
    return torch.stack([t.float().mean() for t in parts if t.requires_grad]).sum()
