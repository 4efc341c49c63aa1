"""Small made-up configs of image towers, one or more of every model type and class."""

from typing import Any

Case = tuple[str, str, dict[str, Any]]  # model type, class, config

VIT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
}
TEXT_TOWER = {
    "hidden_size": 20,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 17,
    "projection_dim": 12,
}
VISION_TOWER = {**VIT, "projection_dim": 12}
PAIR = {"text_config": TEXT_TOWER, "vision_config": VISION_TOWER, "projection_dim": 12}
SIGLIP = {"text_config": {**TEXT_TOWER, "projection_size": 20}, "vision_config": VIT}
PIXELS = {k: v for k, v in VIT.items() if k != "image_size"} | {"num_patches": 25}
CHINESE = {**TEXT_TOWER, "type_vocab_size": 2}
SWIN = {
    "embed_dim": 12,
    "depths": [1, 2],
    "num_heads": [2, 3],
    "window_size": 4,
    "image_size": 32,
    "patch_size": 4,
}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}
SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 2],
    "sr_ratios": [2, 1],
    "hidden_sizes": [8, 16],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [4, 3],
    "decoder_hidden_size": 32,
}
SAM = {
    "vision_config": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "global_attn_indexes": [1],
        "image_size": 64,
        "window_size": 2,
        "output_channels": 32,
    },
    "mask_decoder_config": {"num_hidden_layers": 1, "hidden_size": 32, "mlp_dim": 16},
    "prompt_encoder_config": {"hidden_size": 32, "image_embedding_size": 4, "image_size": 64},
}

LABELS = {"id2label": {"0": "a", "1": "b", "2": "c"}}

TOWERS: list[Case] = [
    ("vit", "ViTModel", VIT),
    ("vit", "ViTModel", {**VIT, "qkv_bias": False, "pooler_output_size": 7, "num_channels": 1}),
    ("vit", "ViTForImageClassification", {**VIT, **LABELS}),
    ("vit", "ViTForMaskedImageModeling", {**VIT, "encoder_stride": 8}),
    ("deit", "DeiTModel", VIT),
    ("deit", "DeiTForImageClassification", VIT),
    ("deit", "DeiTForImageClassificationWithTeacher", VIT),
    ("deit", "DeiTForMaskedImageModeling", VIT),
    ("beit", "BeitModel", VIT),
    ("beit", "BeitModel", {**VIT, "use_mean_pooling": False, "layer_scale_init_value": 0.0}),
    (
        "beit",
        "BeitForImageClassification",
        {
            **VIT,
            "use_mask_token": True,
            "use_absolute_position_embeddings": True,
            "use_relative_position_bias": True,
            "use_shared_relative_position_bias": True,
        },
    ),
    ("beit", "BeitForMaskedImageModeling", {**VIT, "vocab_size": 50}),
    ("dinov2", "Dinov2Model", {**VIT, "mlp_ratio": 3}),
    ("dinov2", "Dinov2Model", {**VIT, "use_swiglu_ffn": True, "use_mask_token": False}),
    ("dinov2", "Dinov2ForImageClassification", VIT),
    ("dinov2", "Dinov2Backbone", VIT),
    ("dinov2_with_registers", "Dinov2WithRegistersModel", {**VIT, "num_register_tokens": 2}),
    ("dinov2_with_registers", "Dinov2WithRegistersForImageClassification", VIT),
    ("dinov3_vit", "DINOv3ViTModel", {**VIT, "num_register_tokens": 4}),
    ("dinov3_vit", "DINOv3ViTModel", {**VIT, "use_gated_mlp": True, "key_bias": True}),
    ("dinov3_vit", "DINOv3ViTModel", {**VIT, "mlp_bias": False, "num_attention_heads": 4}),
    ("swin", "SwinModel", SWIN),
    ("swin", "SwinForImageClassification", {**SWIN, "use_absolute_embeddings": True}),
    ("swin", "SwinForMaskedImageModeling", {**SWIN, "qkv_bias": False, "mlp_ratio": 2.5}),
    ("donut-swin", "DonutSwinModel", SWIN),
    ("convnext", "ConvNextModel", {}),
    ("convnext", "ConvNextForImageClassification", {**STAGES, "num_stages": 2}),
    ("convnext", "ConvNextModel", {**STAGES, "num_stages": 2, "layer_scale_init_value": 0.0}),
    ("convnextv2", "ConvNextV2ForImageClassification", {**STAGES, "num_stages": 2}),
    ("resnet", "ResNetModel", {**STAGES, "embedding_size": 8}),
    ("resnet", "ResNetForImageClassification", {**STAGES, "layer_type": "basic"}),
    ("resnet", "ResNetBackbone", {**STAGES, "downsample_in_first_stage": True}),
    ("segformer", "SegformerModel", SEGFORMER),
    ("segformer", "SegformerForImageClassification", SEGFORMER),
    ("segformer", "SegformerForSemanticSegmentation", {**SEGFORMER, **LABELS}),
    ("sam", "SamModel", SAM),
    ("sam_vision_model", "SamVisionModel", SAM["vision_config"]),
    ("clip_text_model", "CLIPTextModel", TEXT_TOWER),
    ("clip_text_model", "CLIPTextModelWithProjection", TEXT_TOWER),
    ("clip_vision_model", "CLIPVisionModel", VISION_TOWER),
    ("clip_vision_model", "CLIPVisionModelWithProjection", VISION_TOWER),
    ("clip", "CLIPModel", PAIR),
    ("clip", "CLIPModel", {}),
    ("clip", "CLIPForImageClassification", {**PAIR, **LABELS}),
    ("chinese_clip_text_model", "ChineseCLIPTextModel", CHINESE),
    ("chinese_clip_vision_model", "ChineseCLIPVisionModel", VISION_TOWER),
    ("chinese_clip", "ChineseCLIPModel", {**PAIR, "text_config": CHINESE}),
    ("siglip_text_model", "SiglipTextModel", {**TEXT_TOWER, "projection_size": 9}),
    ("siglip_vision_model", "SiglipVisionModel", VIT),
    ("siglip_vision_model", "SiglipVisionModel", {**VIT, "vision_use_head": False}),
    ("siglip", "SiglipModel", SIGLIP),
    ("siglip", "SiglipForImageClassification", SIGLIP),
    ("siglip2_vision_model", "Siglip2VisionModel", PIXELS),
    ("siglip2", "Siglip2Model", {**SIGLIP, "vision_config": PIXELS}),
    ("siglip2", "Siglip2ForImageClassification", {**SIGLIP, "vision_config": PIXELS}),
]
