"""Classes that vLLM has come to know since 0.9, by release; those of 0.9 have no row.

Nor has Ministral3ForCausalLM, which came with 0.20: its repositories are in Mistral's own format
too (params.json), which releases before run as MistralForCausalLM.
Source: wheels of vllm 0.9.0 to 0.9.2, 0.10.0, 0.10.1.1, 0.10.2, 0.11.0 to 0.11.2, the first and the
last of 0.12 to 0.33 (0.17.1 and 0.22.1 alone of theirs), vllm/model_executor/models/registry.py;
what releases take of transformers is Requires-Dist of their METADATA.
"""

from collections.abc import Mapping

from weighbridge.engines.engine import Version
from weighbridge.engines.model_classes import Backend, Known

KNOWS: tuple[Known, ...] = (
    Known(
        (0, 9, 1),
        (0, 9, 0),
        "NemotronHForCausalLM TarsierForConditionalGeneration",
    ),
    Known(
        (0, 9, 2),
        (0, 9, 1),
        "Dots1ForCausalLM Ernie4_5_ForCausalLM Ernie4_5_MoeForCausalLM "
        "Gemma3nForConditionalGeneration Glm4vForConditionalGeneration HunYuanMoEV1ForCausalLM "
        "KeyeForConditionalGeneration MiniMaxM1ForCausalLM Tarsier2ForConditionalGeneration",
    ),
    Known(
        (0, 10),
        (0, 9, 2),
        "ArceeForCausalLM BailingMoeForCausalLM Exaone4ForCausalLM Glm4MoeForCausalLM "
        "HunYuanDenseV1ForCausalLM MiniMaxForCausalLM Phi4FlashForCausalLM "
        "VoxtralForConditionalGeneration",
    ),
    Known(
        (0, 10, 1),
        (0, 10, 0),
        "Cohere2VisionForConditionalGeneration Emu3ForConditionalGeneration Ernie4_5ForCausalLM "
        "Gemma3nForCausalLM Glm4vMoeForConditionalGeneration GptOssForCausalLM "
        "HCXVisionForCausalLM InternS1ForConditionalGeneration Llama4ForCausalLM "
        "MBartForConditionalGeneration Phi4MultimodalForCausalLM SmolLM3ForCausalLM "
        "Step3TextForCausalLM Step3VLForConditionalGeneration",
    ),
    Known(
        (0, 10, 2),
        (0, 10, 1, 1),
        "ApertusForCausalLM DonutForConditionalGeneration "
        "Ernie4_5_VLMoeForConditionalGeneration InternVLForConditionalGeneration "
        "KeyeVL1_5ForConditionalGeneration Lfm2ForCausalLM MotifForCausalLM "
        "Qwen3NextForCausalLM RForConditionalGeneration SeedOssForCausalLM",
    ),
    Known(
        (0, 11),
        (0, 10, 2),
        "BailingMoeV2ForCausalLM CwmForCausalLM DeepseekV32ForCausalLM DotsOCRForCausalLM "
        "LongcatFlashForCausalLM Olmo3ForCausalLM Qwen3VLForConditionalGeneration "
        "Qwen3VLMoeForConditionalGeneration",
    ),
    Known(
        (0, 11, 1),
        (0, 11, 0),
        "AfmoeForCausalLM BeeForConditionalGeneration DeepseekOCRForCausalLM "
        "FlexOlmoForCausalLM KimiLinearForCausalLM Lfm2MoeForCausalLM "
        "LightOnOCRForConditionalGeneration MiniMaxM2ForCausalLM OuroForCausalLM "
        "PaddleOCRVLForConditionalGeneration PanguEmbeddedForCausalLM PanguUltraMoEForCausalLM "
        "Qwen3OmniMoeForConditionalGeneration",
    ),
    Known(
        (0, 12),
        (0, 11, 2),
        "HunYuanVLForConditionalGeneration MistralLarge3ForCausalLM "
        "OpenCUAForConditionalGeneration Plamo3ForCausalLM TeleChatForCausalLM",
    ),
    Known(
        (0, 13),
        (0, 12, 0),
        "AudioFlamingo3ForConditionalGeneration BagelForConditionalGeneration Jais2ForCausalLM",
    ),
    Known(
        (0, 14),
        (0, 13, 0),
        "GlmAsrForConditionalGeneration Grok1ForCausalLM IQuestCoderForCausalLM "
        "IQuestLoopCoderForCausalLM IsaacForConditionalGeneration "
        "KananaVForConditionalGeneration Lfm2VlForConditionalGeneration MiMoV2FlashForCausalLM "
        "NemotronParseForConditionalGeneration PanguProMoEV2ForCausalLM",
    ),
    Known(
        (0, 15),
        (0, 14, 1),
        "Glm4MoeLiteForCausalLM KimiK25ForConditionalGeneration Molmo2ForConditionalGeneration "
        "Step1ForCausalLM StepVLForConditionalGeneration",
    ),
    Known(
        (0, 15, 1),
        (0, 15, 0),
        "Step3p5ForCausalLM",
    ),
    Known(
        (0, 16),
        (0, 15, 1),
        "DeepseekOCR2ForCausalLM FunAudioChatForConditionalGeneration GlmMoeDsaForCausalLM "
        "GlmOcrForConditionalGeneration InternS1ProForConditionalGeneration "
        "MusicFlamingoForConditionalGeneration NemotronHPuzzleForCausalLM "
        "OpenPanguVLForConditionalGeneration Qwen3ASRForConditionalGeneration",
    ),
    Known(
        (0, 17),
        (0, 16, 0),
        "AXK1ForCausalLM BailingMoeV2_5ForCausalLM FireRedASR2ForConditionalGeneration "
        "FunASRForConditionalGeneration Ovis2_6ForCausalLM Ovis2_6_MoeForCausalLM "
        "Qwen3_5ForConditionalGeneration Qwen3_5MoeForConditionalGeneration",
    ),
    Known(
        (0, 18),
        (0, 17, 1),
        "HCXVisionV2ForCausalLM HyperCLOVAXForCausalLM MoonshotKimiaForCausalLM "
        "OlmoHybridForCausalLM SarvamMLAForCausalLM SarvamMoEForCausalLM",
    ),
    Known(
        (0, 19),
        (0, 18, 1),
        "CohereAsrForConditionalGeneration Gemma4ForCausalLM Gemma4ForConditionalGeneration",
    ),
    Known(
        (0, 20),
        (0, 19, 1),
        "CheersForConditionalGeneration DeepseekV4ForCausalLM "
        "Exaone4_5_ForConditionalGeneration FireRedLIDForConditionalGeneration "
        "Granite4VisionForConditionalGeneration HYV3ForCausalLM Param2MoEForCausalLM "
        "Rnj1ForCausalLM TeleChat3ForCausalLM",
    ),
    Known(
        (0, 21),
        (0, 20, 2),
        "Cohere2MoeForCausalLM LagunaForCausalLM MiMoV2ForCausalLM MiMoV2OmniForCausalLM "
        "Moondream3ForCausalLM QianfanOCRForConditionalGeneration",
    ),
    Known(
        (0, 22),
        (0, 21, 0),
        "InternS2PreviewForConditionalGeneration MellumForCausalLM "
        "MiniCPMV4_6ForConditionalGeneration PeagleLlamaForCausalLM",
    ),
    Known(
        (0, 23),
        (0, 22, 1),
        "Cosmos3ForConditionalGeneration Gemma4UnifiedForConditionalGeneration "
        "GraniteSpeechPlusForConditionalGeneration Step3p7ForConditionalGeneration",
    ),
    Known(
        (0, 24),
        (0, 23, 0),
        "HrmTextForCausalLM MiniMaxM3SparseForCausalLM MiniMaxM3SparseForConditionalGeneration "
        "PeagleQwen3ForCausalLM",
    ),
    Known(
        (0, 25),
        (0, 24, 0),
        "DFlashLagunaForCausalLM LlavaOnevision2ForConditionalGeneration "
        "MossTranscribeDiarizeForConditionalGeneration UnlimitedOCRForCausalLM",
    ),
    Known(
        (0, 26),
        (0, 25, 1),
        "Cosmos3EdgeForConditionalGeneration InklingForCausalLM InklingForConditionalGeneration "
        "LongcatFlashNgramForCausalLM",
    ),
    Known(
        (0, 27),
        (0, 26, 0),
        "KimiK3ForConditionalGeneration Qwen3_5ForCausalLM Qwen3_5MoeForCausalLM "
        "VaultGemmaForCausalLM VibeVoiceAsrForConditionalGeneration",
    ),
    Known(
        (0, 28),
        (0, 27, 1),
        "BailingMoeV3ForCausalLM Dots3NoteForCausalLM InternS2MobiusForConditionalGeneration "
        "MuseGlimmerForCausalLM MuseGlimmerForConditionalGeneration",
    ),
    Known(
        (0, 29),
        (0, 28, 0),
        "GraniteMoeSWAForCausalLM GraniteSWAForCausalLM HYV4ForCausalLM Qwen4ExpForCausalLM "
        "Qwen4ExpForConditionalGeneration",
    ),
    Known(
        (0, 30),
        (0, 29, 0),
        "BailingMoeV3VLForConditionalGeneration CohereCompassForConditionalGeneration "
        "DeepseekV41ForCausalLM DeepseekV4ForConditionalGeneration Glm5NextForCausalLM "
        "Glm5NextForConditionalGeneration K2HorizonForCausalLM NanbeigeForCausalLM",
    ),
    Known(
        (0, 32),
        (0, 31, 0),
        "MiniCPMV4_7ForConditionalGeneration",
    ),
    Known(
        (0, 33),
        (0, 32, 0),
        "AliceAIForCausalLM BeamForCausalLM DomynEdgeForCausalLM DoryForCausalLM "
        "FlintForCausalLM Kolibri1ForCausalLM MiniCPMOcrForConditionalGeneration "
        "MuseSparkForConditionalGeneration RadioMBartPrefixForCausalLM Step5ForCausalLM "
        "Step5ForConditionalGeneration",
    ),
)
# TransformersForCausalLM, TransformersForMultimodalLM. The first that name an end (0.11.1) take no
# transformers 5, which those before are older than; 0.20 is the first that does.
BACKEND = Backend(
    text=(0, 7),
    images=(0, 10),
    newest={(0,): (4, 57), (0, 20): ()},
)
# Those of 0.33 that no row has: they were there before 0.9.1, or were not read.
BEFORE = (
    "Alpamayo2Super AriaForConditionalGeneration BailingMoeV25MTPModel BailingMoeV3MTPModel "
    "BertForMaskedLM BertForSequenceClassification BertForTokenClassification BertModel "
    "BertSpladeSparseEmbeddingModel BgeM3EmbeddingModel Blip2ForConditionalGeneration "
    "BloomForCausalLM CLIPModel ChatGLMForConditionalGeneration ChatGLMModel "
    "ClefFlashForJointSchema ClefOmniForJointSchema Cohere2ForCausalLM CohereForCausalLM "
    "ColBERTJinaRobertaModel ColBERTLfm2Model ColBERTModernBertModel ColModernVBertForRetrieval "
    "ColPaliForRetrieval ColQwen3 ColQwen3_5 ColUltraVBertForRetrieval "
    "D3ForSequenceClassification DFlash2BeamDraftModel DFlash2DraftModel DFlashDraftModel "
    "DFlashMuseGlimmerAssistantModel DFlashQwen3XPressModel DSparkDraftModel DSparkV41DraftModel "
    "DbrxForCausalLM DeciLMForCausalLM DeepSeekMTPModel DeepSeekV4MTPModel DeepseekForCausalLM "
    "DeepseekV2ForCausalLM DeepseekV32MTPModel DeepseekV3BidirectionalModel DeepseekV3ForCausalLM "
    "DeepseekVLV2ForCausalLM DiffusionGemmaForBlockDiffusion Dots3NoteMTPModel "
    "Eagle2_5_VLForConditionalGeneration Eagle3DeepseekV2ForCausalLM Eagle3DeepseekV3ForCausalLM "
    "Eagle3LlamaForCausalLM Eagle3MiniMaxM2ForCausalLM Eagle3Qwen2_5vlForCausalLM "
    "Eagle3Qwen3ForCausalLM Eagle3Qwen3vlForCausalLM EagleCohereForCausalLM EagleDeepSeekMTPModel "
    "EagleLlama4ForCausalLM EagleLlamaForCausalLM EagleMiniCPMForCausalLM EagleMistralForCausalLM "
    "EagleMistralLarge3ForCausalLM EmbeddingGemma2Model ErnieMTPModel Exaone4_5_MTP "
    "ExaoneForCausalLM ExaoneMoEForCausalLM ExaoneMoeForCausalLM ExaoneMoeMTP "
    "ExtractHiddenStatesModel FalconForCausalLM FalconH1ForCausalLM FalconMambaForCausalLM "
    "GLM4VForCausalLM GPT2ForSequenceClassification GPT2LMHeadModel GPTBigCodeForCausalLM "
    "GPTJForCausalLM GPTNeoXForCausalLM Gemma2ForCausalLM Gemma2Model Gemma3ForCausalLM "
    "Gemma3ForConditionalGeneration Gemma3TextModel Gemma4DSparkModel Gemma4MTPModel "
    "GemmaForCausalLM Glm4ForCausalLM Glm4MoeLiteMTPModel Glm4MoeMTPModel Glm5NextMTPModel "
    "GlmForCausalLM GlmOcrMTPModel GraniteForCausalLM GraniteMoeForCausalLM "
    "GraniteMoeHybridForCausalLM GraniteMoeSharedForCausalLM "
    "GraniteSpeechForConditionalGeneration GteModel GteNewForSequenceClassification GteNewModel "
    "H2OVLChatModel HF_ColBERT HYV3MTPModel HYV4MTPModel HfMoondream "
    "Idefics3ForConditionalGeneration InklingMTPModel InternLM2ForCausalLM "
    "InternLM2ForRewardModel InternLM3ForCausalLM InternS2MobiusMTP InternVLChatModel "
    "JambaForCausalLM JambaForSequenceClassification JinaEmbeddingsV5Model JinaForRanking "
    "JinaVLForRanking K3DSparkModel KimiK3MTPModel KimiVLForConditionalGeneration "
    "LLaMAForCausalLM Lfm2BidirectionalModel LiLiCorrDraftModel Llama4ForConditionalGeneration "
    "LlamaBidirectionalForSequenceClassification LlamaBidirectionalModel LlamaForCausalLM "
    "LlamaForCausalLMEagle3 LlamaModel LlamaNemotronVLForSequenceClassification "
    "LlamaNemotronVLModel Llama_Nemotron_Nano_VL LlavaForConditionalGeneration "
    "LlavaNextForConditionalGeneration LlavaNextVideoForConditionalGeneration "
    "LlavaOnevisionForConditionalGeneration LongCatFlashMTPModel Mamba2ForCausalLM "
    "MambaForCausalLM MiDashengLMModel MiMoForCausalLM MiMoMTPModel MiMoV2MTPModel "
    "MiMoV2OmniMTPModel MiniCPM3ForCausalLM MiniCPMForCausalLM MiniCPMO MiniCPMV MiniMaxM3MTP "
    "Ministral3ForCausalLM Mistral3ForConditionalGeneration MistralForCausalLM MistralModel "
    "MixtralForCausalLM ModernBertForSequenceClassification ModernBertForTokenClassification "
    "ModernBertModel ModernVBertModel MolmoForCausalLM MossAudioModel MuseGlimmerAssistantModel "
    "MuseSparkDSparkModel NVLM_D NemotronForCausalLM NemotronHMTPModel "
    "NemotronH_Nano_Omni_Reasoning_V3 NemotronH_Nano_VL_V2 NemotronH_Omni_Reasoning_V3 "
    "NemotronH_Super_Omni_Reasoning_V3 NomicBertModel OPTForCausalLM Olmo2ForCausalLM "
    "OlmoForCausalLM OlmoeForCausalLM OpenAIPrivacyFilterForTokenClassification OpenPanguMTPModel "
    "OpenVLAForActionPrediction OpsColQwen3Model OrionForCausalLM Ovis Ovis2_5 PEagleDraftModel "
    "PaliGemmaForConditionalGeneration ParseAuxMTPModel Phi3ForCausalLM Phi3VForCausalLM "
    "Phi4ForCausalLMV Phi4MMForCausalLM PhiForCausalLM PhiMoEForCausalLM "
    "PixtralForConditionalGeneration Qwen2AudioForConditionalGeneration Qwen2ForCausalLM "
    "Qwen2ForProcessRewardModel Qwen2ForRewardModel Qwen2Model Qwen2MoeForCausalLM "
    "Qwen2VLForConditionalGeneration Qwen2_5OmniForConditionalGeneration Qwen2_5OmniModel "
    "Qwen2_5_VLForConditionalGeneration Qwen3ASRForcedAlignerForTokenClassification "
    "Qwen3ASRRealtimeGeneration Qwen3DSparkModel Qwen3ForCausalLM Qwen3MoeForCausalLM "
    "Qwen3NextMTP Qwen3OmniDSparkModel Qwen3VLNemotronEmbedModel Qwen3XPressModel Qwen3_5MTP "
    "Qwen3_5MoeMTP Qwen4ExpMTP RobertaForMaskedLM RobertaForSequenceClassification "
    "RobertaForTokenClassification RobertaModel SiglipModel SkyworkR1VChatModel "
    "SmolVLMForConditionalGeneration SolarForCausalLM StableLmForCausalLM Starcoder2ForCausalLM "
    "Step3p5MTP Step5MTP TeleChat2ForCausalLM TeleFLMForCausalLM UltravoxModel "
    "VoxtralRealtimeGeneration VoyageQwen3BidirectionalEmbedModel WhisperForConditionalGeneration "
    "XLMRobertaForSequenceClassification XLMRobertaForTokenClassification XLMRobertaModel "
    "Zamba2ForCausalLM"
)
# registry.py of 0.33: _PREVIOUSLY_SUPPORTED_MODELS, by the last release that has them.
GONE: Mapping[Version, str] = {
    (0, 9, 2): "Phi3SmallForCausalLM",
    (0, 10, 2): (
        "MotifForCausalLM Phi4FlashForCausalLM DonutForConditionalGeneration "
        "MllamaForConditionalGeneration"
    ),
    (0, 12, 0): "Phi4MultimodalForCausalLM",
    (0, 22, 0): "JAISLMHeadModel",
    (0, 23, 0): (
        "ErnieModel ErnieForSequenceClassification ErnieForTokenClassification "
        "InternLM2VEForCausalLM "
        "QWenLMHeadModel QwenVLForConditionalGeneration InternLMForCausalLM XverseForCausalLM "
        "Dots1ForCausalLM BambaForCausalLM MiniMaxForCausalLM MiniMaxText01ForCausalLM "
        "MiniMaxM1ForCausalLM MiniMaxVL01ForConditionalGeneration BaiChuanForCausalLM "
        "BaichuanForCausalLM Tarsier2ForConditionalGeneration"
    ),
    (0, 24, 0): (
        "AquilaModel AquilaForCausalLM Grok1ModelForCausalLM Grok1ForCausalLM "
        "TarsierForConditionalGeneration MantisForConditionalGeneration "
        "MusicFlamingoForConditionalGeneration AyaVisionForConditionalGeneration"
    ),
    (0, 25, 0): "TeleChatForCausalLM PersimmonForCausalLM FuyuForCausalLM",
    (0, 26, 0): "Plamo2ForCausalLM OuroForCausalLM",
    (0, 28, 0): (
        "ArcticForCausalLM ChameleonForConditionalGeneration Cheers CheersForConditionalGeneration "
        "Fairseq2LlamaForCausalLM FireRedLIDForConditionalGeneration GritLM HCXVisionForCausalLM "
        "MPTForCausalLM MptForCausalLM RWForCausalLM StableLMEpochForCausalLM PrithviGeoSpatialMAE"
    ),
}
