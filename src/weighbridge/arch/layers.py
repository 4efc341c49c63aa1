"""The table: `model_type` -> the reader of what its layers remember.

    layers(config) -> one Layer a layer, of the records in `mixers.py`; from the config alone

One line a model type, among those that share a reader. A model that holds a language model is
answered by that one's config. A model type without a cache is listed with the reason.
"""

from collections.abc import Callable, Mapping
from importlib import import_module

from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Layer
from weighbridge.errors import UnsupportedError

# "module:function" below weighbridge.arch.cache_layers -> the model types that it reads
READERS: Mapping[str, str] = {
    "attention:usual": """
        llama mistral qwen2 qwen3 PanguEmbedded apertus arcee baichuan bitnet cohere cohere2 cwm
        diffllama ernie4_5 exaone exaone4 gemma gemma2 gemma3_text glm glm4 granite granite_swa
        helium hyperclovax internlm internlm2 internlm3 iquestcoder
        jais2 mimo minicpm ministral ministral3 nanochat nemotron olmo olmo2 olmo3 orion
        phi phi3 phi4 seed_oss smollm3 stablelm stablelm_epoch starcoder2 vaultgemma phi3_v
        phi4_multimodal phi4mm chameleon molmo emu3_text_model qwen2_vl_text qwen2_5_vl_text
        qwen3_vl_text qwen3_vl_moe_text glm4v_text glm4v_moe_text ernie4_5_vl_moe_text
        paddleocr_vl_text qwen2_5_omni_text qwen2_5_omni_talker qwen3_omni_moe_text aria_text
        mixtral phimoe minimax_m2 qwen2_moe qwen3_moe olmoe flex_olmo mellum deepseek glm4_moe
        dots1 solar_open exaone_moe hy_v3 afmoe cohere2_moe ernie4_5_moe laguna step3p7_text
        gpt_oss llama4_text granitemoe granitemoeshared bailing_moe bailing_moe_v2
    """,
    "attention:multi_head": """
        biogpt bloom codegen ctrl gpt2 gpt_neo gpt_neox gpt_neox_japanese gpt_neox_reward_model
        gptj mixformer-sequential moss opt persimmon phi-msft git idefics
    """,
    "attention:hunyuan": "hunyuan_v1_moe hunyuan_v1_dense",
    "attention:falcon": "falcon RefinedWeb RefinedWebModel",
    "attention:bigcode": "gpt_bigcode",
    "attention:chatglm": "chatglm",
    "attention:dbrx": "dbrx",
    "attention:mpt": "mpt",
    "attention:xglm": "xglm",
    "attention:kosmos": "kosmos-2",
    "attention:jetmoe": "jetmoe",
    "attention:qwen1": "qwen",
    "attention:mimo_v2": "mimo_v2_flash",
    "attention:deci": "nemotron-nas",
    "attention:gemma3n": "gemma3n_text",
    "attention:gemma4": "gemma4_text gemma4_unified_text",
    "latent:everywhere": "deepseek_v3 glm4_moe_lite mistral4 minicpm3 youtu",
    "latent:maybe": "deepseek_v2",
    "latent:kimi_k2": "kimi_k2",
    "latent:twice": "longcat_flash",
    "latent:indexed": "deepseek_v32",
    "latent:glm_indexed": "glm_moe_dsa",
    "latent:compressed": "deepseek_v4",
    "latent:minimax_m3": "minimax_m3 minimax_m3_vl_text",
    "recurrent:mamba1": "mamba falcon_mamba",
    "recurrent:mamba2": "mamba2",
    "recurrent:jamba": "jamba",
    "recurrent:bamba": "bamba",
    "recurrent:falcon_h1": "falcon_h1",
    "recurrent:granite_hybrid": "granitemoehybrid",
    "recurrent:nemotron_h": "nemotron_h",
    "recurrent:zamba1": "zamba",
    "recurrent:zamba2": "zamba2",
    "recurrent:qwen_next": "qwen3_next qwen3_5_text qwen3_5_moe_text",
    "recurrent:kimi": "kimi_linear",
    "recurrent:bailing": "bailing_hybrid",
    "recurrent:minimax": "minimax minimax_text_01",
    "recurrent:minimax_m1": "minimax_m1",
    "recurrent:short_convs": "lfm2 lfm2_moe",
    "recurrent:rwkv4": "rwkv",
    "recurrent:rwkv5": "rwkv5",
    "recurrent:recurrent_gemma": "recurrent_gemma",
    "sequence:t5": "t5 mt5 umt5 longt5 switch_transformers",
    "sequence:bart": """
        bart mbart m2m_100 marian pegasus blenderbot blenderbot-small led fsmt seamless_m4t
        seamless_m4t_v2
    """,
    "sequence:whisper": "whisper",
    "sequence:speech": "speech_to_text speecht5",
    "sequence:prophetnet": "prophetnet",
    "sequence:blip": "blip",
    "sequence:TEXT": "encoder-decoder",
    "sequence:IMAGE": "vision-encoder-decoder",
    "sequence:AUDIO": "speech-encoder-decoder",
    "sequence:mllama": "mllama",
    "sequence:mllama_text": "mllama_text_model",
    "nested:of_part": """
        aya_vision cohere2_vision gemma3 internvl llava llava_llama llava_mistral llava_next
        llava_next_video llava_onevision llava_qwen mistral3 paligemma vipllava qwen2_vl qwen2_5_vl
        qwen3_vl qwen3_vl_moe qwen3_5 qwen3_5_moe gemma3n gemma4 glm4v glm4v_moe glm46v
        gemma4_unified
        internvl_chat kimi_k25 kimi_vl blip-2 instructblip granite_speech qwen2_audio ultravox
        voxtral aria florence2 fuyu lfm2_vl ovis2 ernie4_5_moe_vl ernie4_5_vl_moe janus emu3
        qwen2_5_omni qwen2_5_omni_thinker qwen3_omni_moe qwen3_omni_moe_thinker
        qwen3_omni_moe_talker paddleocr_vl idefics2 idefics3 smolvlm llama4
    """,
    "nested:of_minicpmv": "minicpmv",
    "nested:of_deepseek_vl": "deepseek_vl_v2",
}

# Why -> the model types that keep nothing from one token to the next
WITHOUT: Mapping[str, str] = {
    "an encoder: it reads its input at once": """
        bert ernie layoutlm big_bird electra roformer dpr roberta camembert xlm-roberta
        xlm-roberta-xl longformer mpnet deberta deberta-v2 distilbert albert mobilebert squeezebert
        modernbert nomic_bert funnel layoutlmv3 wav2vec2 wav2vec2-conformer hubert wavlm unispeech
        unispeech-sat chinese_clip chinese_clip_text_model clip clip_text_model siglip
        siglip_text_model siglip2 siglip2_text_model blip_2_qformer
    """,
    "an image tower": """
        beit chinese_clip_vision_model clip_vision_model convnext convnextv2 deit dinov2
        dinov2_with_registers dinov3_vit donut-swin resnet sam sam_vision_model segformer
        siglip_vision_model siglip2_vision_model swin vit internvl_vision pixtral qwen2_vl_vision
        qwen2_5_vl_vision qwen3_vl_vision qwen3_vl_moe_vision qwen3_5_vision qwen3_5_moe_vision
        gemma3n_vision gemma4_vision glm4v_moe_vision glm4v_vision intern_vit_6b kimi_k25_vision
        moonvit blip_vision_model blip_2_vision_model instructblip_vision_model florence_vision
        git_vision_model ovis2_vision ernie4_5_vl_moe_vision chameleon_vqgan emu3_vqgan
        janus_vision_model janus_vqgan qwen2_5_omni_vision_encoder qwen3_omni_moe_vision_encoder
        paddleocr_vl_vision idefics2_vision idefics3_vision llama4_vision_model mllama_vision_model
        smolvlm_vision timm_wrapper
    """,
    "an audio tower, codec or vocoder": """
        encodec mimi dac gemma3n_audio gemma4_audio granite_speech_encoder qwen2_audio_encoder
        voxtral_encoder qwen2_5_omni_audio_encoder qwen2_5_omni_token2wav
        qwen3_omni_moe_audio_encoder qwen3_omni_moe_code2wav
    """,
    "its class generates without a cache": "openai-gpt xlm xlnet",
    "it embeds pages and queries": "colpali colqwen2",
}


def _spread(groups: Mapping[str, str]) -> dict[str, str]:
    return {name: key for key, names in groups.items() for name in names.split()}


READER_OF, REASON_OF = _spread(READERS), _spread(WITHOUT)


def layers(c: Config) -> tuple[Layer, ...]:
    """What the layers of the language model, or of the decoder, remember. Empty: no cache."""
    if c.model_type in REASON_OF:
        return ()
    if c.model_type not in READER_OF:
        raise UnsupportedError(
            f"{c.where}: model type {c.model_type!r}: its caches are not in our tables"
        )
    module, name = READER_OF[c.model_type].split(":")
    reader: Callable[[Config], tuple[Layer, ...]] = getattr(
        import_module(f"weighbridge.arch.cache_layers.{module}"), name
    )
    return reader(c)
