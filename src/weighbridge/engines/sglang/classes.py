"""Classes that SGLang has come to know since 0.4, by release; those of 0.4 have no row.

Later builds of a release (0.4.6.post5) count as that release. LlavaForConditionalGeneration has no
row either: those before 0.4.6 run LLaVA under other names (LlavaLlamaForCausalLM).
Source: wheels of sglang 0.4.0 to 0.5.23, the last build of each and the first of some, EntryClass
of sglang/srt/models/*.py; the transformers that each takes is Requires-Dist of its METADATA.
"""

from weighbridge.engines.model_classes import Backend, Known

KNOWS: tuple[Known, ...] = (
    Known(
        (0, 4, 1),
        (0, 4, 0),
        "DeepseekV3ForCausalLM InternLM3ForCausalLM",
    ),
    Known(
        (0, 4, 2),
        (0, 4, 1),
        "Cohere2ForCausalLM",
    ),
    Known(
        (0, 4, 3),
        (0, 4, 2),
        "Qwen2_5_VLForConditionalGeneration",
    ),
    Known(
        (0, 4, 4),
        (0, 4, 3),
        "DeepseekVL2ForCausalLM Gemma3ForCausalLM Gemma3ForConditionalGeneration",
    ),
    Known(
        (0, 4, 5),
        (0, 4, 4),
        "Llama4ForCausalLM Llama4ForConditionalGeneration Qwen3ForCausalLM Qwen3MoeForCausalLM",
    ),
    Known(
        (0, 4, 6),
        (0, 4, 5),
        "KimiVLForConditionalGeneration MiMoForCausalLM Mistral3ForConditionalGeneration",
    ),
    Known(
        (0, 4, 7),
        (0, 4, 6),
        "Phi4MMForCausalLM VILAForConditionalGeneration",
    ),
    Known(
        (0, 4, 8),
        (0, 4, 7),
        "Gemma3nForCausalLM Gemma3nForConditionalGeneration Glm4ForCausalLM "
        "HunYuanMoEV1ForCausalLM",
    ),
    Known(
        (0, 4, 9),
        (0, 4, 8),
        "Glm4MoeForCausalLM GraniteMoeForCausalLM HunYuanDenseV1ForCausalLM "
        "InternS1ForConditionalGeneration PersimmonForCausalLM PhiForCausalLM PhiMoEForCausalLM "
        "Qwen2AudioForConditionalGeneration",
    ),
    Known(
        (0, 4, 10),
        (0, 4, 9),
        "ArceeForCausalLM Step3VLForConditionalGeneration",
    ),
    Known(
        (0, 5),
        (0, 4, 10),
        "BailingMoeForCausalLM Ernie4_5_ForCausalLM Ernie4_5_MoeForCausalLM "
        "Glm4vForConditionalGeneration Glm4vMoeForConditionalGeneration GptOssForCausalLM",
    ),
    Known(
        (0, 5, 1),
        (0, 5, 0),
        "DeciLMForCausalLM",
    ),
    Known(
        (0, 5, 2),
        (0, 5, 1),
        "LongcatFlashForCausalLM OPTForCausalLM Qwen3NextForCausalLM",
    ),
    Known(
        (0, 5, 3),
        (0, 5, 2),
        "ApertusForCausalLM BailingMoEForCausalLM BailingMoeV2ForCausalLM "
        "DeepseekV32ForCausalLM DotsOCRForCausalLM DotsVLMForCausalLM FalconH1ForCausalLM "
        "NemotronHForCausalLM Qwen3VLForConditionalGeneration "
        "Qwen3VLMoeForConditionalGeneration Sarashina2VisionForCausalLM SolarForCausalLM "
        "Starcoder2ForCausalLM",
    ),
    Known(
        (0, 5, 4),
        (0, 5, 3),
        "DeepseekOCRForCausalLM KimiLinearForCausalLM MiniMaxM2ForCausalLM "
        "NVILAForConditionalGeneration NVILALiteForConditionalGeneration "
        "Qwen3OmniMoeForConditionalGeneration",
    ),
    Known(
        (0, 5, 5),
        (0, 5, 4),
        "JetNemotronForCausalLM OrionForCausalLM TeleFLMForCausalLM",
    ),
    Known(
        (0, 5, 6),
        (0, 5, 5),
        "JetVLMForConditionalGeneration Ministral3ForCausalLM MistralLarge3ForCausalLM "
        "PaddleOCRVLForConditionalGeneration PixtralForConditionalGeneration",
    ),
    Known(
        (0, 5, 7),
        (0, 5, 6),
        "GlmAsrForConditionalGeneration MiMoV2FlashForCausalLM",
    ),
    Known(
        (0, 5, 8),
        (0, 5, 7),
        "AfmoeForCausalLM Glm4MoeLiteForCausalLM IQuestCoderForCausalLM IQuestLoopCoderForCausalLM",
    ),
    Known(
        (0, 5, 9),
        (0, 5, 8),
        "BailingMoeV2_5ForCausalLM Ernie4_5_VLMoeForConditionalGeneration Exaone4ForCausalLM "
        "GPTJForCausalLM GlmMoeDsaForCausalLM GlmOcrForConditionalGeneration "
        "GraniteMoeHybridForCausalLM InternS1ProForConditionalGeneration "
        "KimiK25ForConditionalGeneration Lfm2ForCausalLM Lfm2MoeForCausalLM "
        "LightOnOCRForConditionalGeneration Qwen3_5ForConditionalGeneration "
        "Qwen3_5MoeForConditionalGeneration SDARForCausalLM SDARMoeForCausalLM "
        "Step3p5ForCausalLM StepVLForConditionalGeneration",
    ),
    Known(
        (0, 5, 10),
        (0, 5, 9),
        "Lfm2VlForConditionalGeneration SarvamMLAForCausalLM SarvamMoEForCausalLM "
        "WhisperForConditionalGeneration",
    ),
    Known(
        (0, 5, 11),
        (0, 5, 10),
        "Gemma4ForCausalLM Gemma4ForConditionalGeneration HYV3ForCausalLM MiMoV2ForCausalLM "
        "MossVLForConditionalGeneration Qwen3ASRForConditionalGeneration "
        "VoxtralForConditionalGeneration",
    ),
    Known(
        (0, 5, 12),
        (0, 5, 11),
        "DeepseekV4ForCausalLM InternS2PreviewForConditionalGeneration LagunaForCausalLM "
        "MiniCPMV4_6ForConditionalGeneration",
    ),
    Known(
        (0, 5, 13),
        (0, 5, 12),
        "Cohere2MoeForCausalLM Cohere2VisionForConditionalGeneration "
        "Gemma4UnifiedForConditionalGeneration NemotronHPuzzleForCausalLM "
        "Step3p7ForConditionalGeneration",
    ),
    Known(
        (0, 5, 14),
        (0, 5, 13),
        "MiMoV2ASRForCausalLM ZayaForCausalLM",
    ),
    Known(
        (0, 5, 15),
        (0, 5, 14),
        "DFlashLagunaForCausalLM HrmTextForCausalLM LocateAnythingForConditionalGeneration "
        "UnlimitedOCRForCausalLM",
    ),
    Known(
        (0, 5, 16),
        (0, 5, 15),
        "GlmImageForConditionalGeneration InklingForConditionalGeneration MellumForCausalLM "
        "MiniMaxM3SparseForCausalLM MiniMaxM3SparseForConditionalGeneration",
    ),
    Known(
        (0, 5, 17),
        (0, 5, 16),
        "KimiK3ForConditionalGeneration Qwen3_5ForCausalLM Qwen3_5MoeForCausalLM",
    ),
    Known(
        (0, 5, 18),
        (0, 5, 17),
        "InternS2MobiusForConditionalGeneration MuseGlimmerForCausalLM "
        "MuseGlimmerForConditionalGeneration",
    ),
    Known(
        (0, 5, 19),
        (0, 5, 18),
        "BailingMoeV3ForCausalLM Dots3NoteForCausalLM GraniteMoeSWAForCausalLM "
        "GraniteMoeSharedForCausalLM GraniteSWAForCausalLM KimiK3LinearForCausalLM "
        "MiniCPMSALAForCausalLM Spark2_5ForCausalLM",
    ),
    Known(
        (0, 5, 20),
        (0, 5, 19),
        "Cosmos3EdgeForConditionalGeneration Cosmos3ForConditionalGeneration "
        "FalconMambaForCausalLM Glm5NextForConditionalGeneration HYV4ForCausalLM "
        "K2HorizonForCausalLM Mamba2ForCausalLM MambaForCausalLM NanbeigeForCausalLM "
        "Qwen4ExpForConditionalGeneration XllmForCausalLM",
    ),
    Known(
        (0, 5, 21),
        (0, 5, 20),
        "BailingMM2NativeForConditionalGeneration BailingMMNativeForConditionalGeneration "
        "BailingMoeV3VLForConditionalGeneration GigaChat35ForCausalLM IQuestQ1ForCausalLM",
    ),
    Known(
        (0, 5, 23),
        (0, 5, 22),
        "BeamForCausalLM MiniCPMV4_7ForConditionalGeneration MuseSparkForConditionalGeneration",
    ),
)
# transformers.py of srt/models: TransformersForCausalLM, TransformersMultiModalForCausalLM
BACKEND = Backend(
    text=(0, 4, 7),
    images=(0, 5, 10),
    newest={
        (0,): (4, 51),
        (0, 4, 7): (4, 52),
        (0, 4, 9): (4, 54),
        (0, 5): (4, 55),
        (0, 5, 2): (4, 56),
        (0, 5, 3): (4, 57),
        (0, 5, 10): (5, 3),
        (0, 5, 11): (5, 6),
        (0, 5, 13): (5, 8),
        (0, 5, 15): (5, 12),
        (0, 5, 21): (5, 19),
    },
)
# Those of 0.5.23 that no row has: they were there before 0.4.1, or were not read.
BEFORE = (
    "BaichuanForCausalLM BailingMoeForCausalLMNextN BertForSequenceClassification BertModel "
    "CLIPModel ChatGLMModel CohereForCausalLM Contriever DFlash2BeamDraftModel DFlash2DraftModel "
    "DFlashDraftModel DSparkDraftModel DSparkMiniMaxDraftModel DbrxForCausalLM "
    "DeepseekForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLMNextN "
    "DeepseekV4ForCausalLMDSpark DeepseekV4ForCausalLMNextN DiffusionGemmaForBlockDiffusion "
    "Dots3NoteForCausalLMNextN Eagle3DeepseekV2ForCausalLM EmbeddingGemma2Model "
    "EmbeddingGemmaModel Ernie4_5_MoeForCausalLMMTP ExaoneForCausalLM ExaoneMoEForCausalLM "
    "ExaoneMoEForCausalLMMTP ExaoneMoeForCausalLM GPT2LMHeadModel GPTBigCodeForCausalLM "
    "Gemma2ForCausalLM Gemma2ForSequenceClassification Gemma4AssistantForCausalLM "
    "Gemma4UnifiedAssistantForCausalLM GemmaForCausalLM GigaChat35ForCausalLMNextN "
    "Glm4MoeForCausalLMNextN Glm4MoeLiteForCausalLMNextN Glm5NextForConditionalGenerationNextN "
    "GlmMoeDsaForCausalLMNextN GlmOcrForConditionalGenerationNextN GraniteForCausalLM "
    "Grok1ForCausalLM Grok1ModelForCausalLM HYV3ForCausalLMNextN HYV4ForCausalLMNextN IQuestQ1MTP "
    "InklingForConditionalGenerationMTP InternLM2ForCausalLM InternLM2ForRewardModel "
    "InternVLChatModel LLaDA2MoeModelLM Lfm2BidirectionalModel Lfm2DSparkDraftModel "
    "LiLiCorrDraftModel LingDSparkModel LlamaEmbeddingModel LlamaForCausalLM "
    "LlamaForCausalLMEagle LlamaForCausalLMEagle3 LlamaForClassification "
    "LlamaForSequenceClassification LlamaForSequenceClassificationWithNormal_Weights "
    "LlavaForConditionalGeneration LlavaLlamaForCausalLM LlavaMistralForCausalLM "
    "LlavaQwenForCausalLM LlavaVidForCausalLM LongcatFlashForCausalLMNextN MiDashengLMModel "
    "MiMoMTP MiMoV2MTP MindSporeForCausalLM MiniCPM3ForCausalLM MiniCPMForCausalLM MiniCPMO "
    "MiniCPMV MiniMaxDFlash2DraftModel MistralForCausalLM MistralForCausalLMEagle "
    "MistralLarge3ForCausalLMEagle MistralModel MixtralForCausalLM MllamaForConditionalGeneration "
    "MultiModalityCausalLM MuseGlimmerAssistantModel NanbeigeForSequenceClassification "
    "NemotronHForCausalLMMTP NemotronH_Nano_Omni_Reasoning_V3 NemotronH_Nano_VL_V2 "
    "NemotronH_Omni_Reasoning_V3 Olmo2ForCausalLM OlmoForCausalLM OlmoeForCausalLM "
    "POINTSV15ChatModel Phi3ForCausalLM Phi3SmallForCausalLM PixtralVisionModel QWenLMHeadModel "
    "QuantMixtralForCausalLM Qwen2ForCausalLM Qwen2ForCausalLMEagle Qwen2ForRewardModel "
    "Qwen2ForSequenceClassification Qwen2MoeForCausalLM Qwen2VLForConditionalGeneration "
    "Qwen3DSparkModel Qwen3ForRewardModel Qwen3ForSequenceClassification Qwen3Model "
    "Qwen3MoeForCausalLMMTP Qwen3NextForCausalLMMTP Qwen3_5ForCausalLMMTP Qwen4ExpForCausalLMMTP "
    "StableLmForCausalLM Step3p5MTP TorchNativeLlamaForCausalLM TorchNativePhi3ForCausalLM "
    "XLMRobertaForSequenceClassification XLMRobertaModel XverseForCausalLM XverseMoeForCausalLM "
    "YiVLForCausalLM"
)
