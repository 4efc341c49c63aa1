"""One training step of a timm model: cross entropy of its classes, or the sum of its features."""

from typing import Any

import torch
from torch import nn

BATCH = 2
# one to three of each module of timm.models, the small ones
LISTED = """
beit_base_patch16_224 beitv2_base_patch16_224 botnet26t_256 halonet26t lambda_resnet26t
sebotnet33ts_256 gcresnet33ts gernet_s mobileone_s0 regnetz_b16 repvgg_a0 resnet50_clip resnet51q
bat_resnext26ts cait_xxs24_224 coat_lite_tiny coat_tiny convit_tiny convmixer_768_32 convnext_atto
convnextv2_atto convnext_zepto_rms cpubone_nano crossvit_9_240 crossvit_9_dagger_240 csatv2
cs3darknet_s cspresnet50 darknet17 cspnext_tiny davit_tiny deepseek_vit_412m deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 deit3_small_patch16_224 densenet121 densenetblur121d dla34
dla46x_c dla60_res2net dpn48b dpn68 edgenext_xx_small efficientformer_l1 efficientformerv2_s0
efficientnet_b0 efficientnet_b0_gn efficientnet_b0_g16_evos efficientnet_cc_b0_4e fbnetc_100
mixnet_s mnasnet_small mobilenetv1_100 mobilenetv2_035 spnasnet_100 tinynet_e tf_efficientnetv2_b0
efficientvim_m1 efficientvit_b0 efficientvit_l1 efficientvit_m0 eva02_tiny_patch14_224
vit_small_patch16_dinov3 vit_small_patch16_rope_mixed_224 vit_pe_core_tiny_patch16_384
fasternet_t0 fastvit_t8 fastvit_mci0 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050
ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224
hiera_small_abswin_256 hieradet_small sam2_hiera_tiny hrnet_w18_small hrnet_w18_ssld iformer_t
iformer_s inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small
levit_128s levit_conv_128s lowformer_b0 lowformer_e1 mambaout_femto coatnet_pico_rw_224
coatnext_nano_rw_224 maxvit_pico_rw_256 maxxvit_rmlp_nano_rw_256 maxxvitv2_nano_rw_256
caformer_s18 convformer_s18 poolformer_s12 poolformerv2_s12 gmixer_12_224 gmlp_ti16_224
mixer_s32_224 resmlp_12_224 fbnetv3_b lcnet_035 mobilenetv3_small_050 mobilenetv4_conv_small
mobilenetv4_hybrid_medium mobilenetv5_base mobilevit_xxs mobilevitv2_050 mvitv2_tiny
mvitv2_small_cls naflexvit_base_patch16_gap naflexvit_base_patch16_map nasnetalarge nest_tiny
nest_tiny_jx nextvit_small dm_nfnet_f0 eca_nfnet_l0 nf_regnet_b0 nf_resnet26 pit_ti_224
pit_ti_distilled_224 pnasnet5large pvt_v2_b0 pvt_v2_b2_li qwen3_vit_88m rdnet_tiny regnetx_002
regnety_002 regnetz_005 repghostnet_050 repvit_m0_9 repvit_m1 res2net50_14w_8s res2next50
resnest14d resnet18 resnet10t resnetaa34d resnetblur18 resnext50_32x4d seresnet18 ecaresnet26t
resnetrs50 resnetv2_18 resnetv2_50x1_bit resnetv2_50d_frn rexnet_100 rexnetr_100 selecsls42
legacy_seresnet18 legacy_seresnext26_32x4d sequencer2d_s shvit_s1 skresnet18 starnet_s1
swiftformer_xs swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256
swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m twins_pcpvt_small twins_svt_small
vgg11 vgg11_bn visformer_tiny vit_tiny_patch16_224 flexivit_small vit_small_patch14_reg4_dinov2
vit_base_patch32_siglip_256 aimv2_large_patch14_224 vit_small_patch16_18x2_224
vit_tiny_r_s16_p8_224 vit_small_resnet26d_224 vit_relpos_small_patch16_224
vit_srelpos_small_patch16_224 samvit_base_patch16_224 vitamin_small_224 volo_d1_224 vovnet39a
ese_vovnet19b_slim legacy_xception xception41 xception41p xcit_nano_12_p16_224
"""
NAMES = LISTED.split()


def step(name: str, device: str) -> int:
    """Parameters of the model, after forward, backward and a step of SGD."""
    import timm

    model = timm.create_model(name).to(device).train()
    side = model.default_cfg.get("input_size", (3, 224, 224))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = torch.zeros(BATCH, *side, device=device)
    out: Any = model(images)
    loss = sum(_loss(part) for part in (out if isinstance(out, tuple | list) else [out]))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return sum(p.numel() for p in model.parameters())


def _loss(out: torch.Tensor) -> torch.Tensor:
    if out.dim() != 2:
        return out.float().mean()
    return nn.functional.cross_entropy(out, torch.zeros(BATCH, dtype=torch.long, device=out.device))
