"""Classes that vLLM has come to know since 0.9, by release; those of 0.9 have no row.

Nor has Ministral3ForCausalLM, which came with 0.20: its repositories are in Mistral's own format
too (params.json), which releases before run as MistralForCausalLM.
Source: wheels of vllm 0.9.0 to 0.9.2, 0.10.0, 0.10.1.1, 0.10.2, 0.11.0 to 0.11.2, the first and the
last of 0.12 to 0.33 (0.17.1 and 0.22.1 alone of theirs), vllm/model_executor/models/registry.py;
what releases take of transformers is Requires-Dist of their METADATA.
"""

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
