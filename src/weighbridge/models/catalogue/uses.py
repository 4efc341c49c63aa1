"""What models are for, as the names of their classes say it."""

from weighbridge.models.catalogue import TIMM, CatalogueEntry

OF_CLASSES = {  # end of a class's name -> what it is for; the first that fits
    "ForCausalLM": "text",
    "LMHeadModel": "text",
    "BartForConditionalGeneration": "text",
    "M2M100ForConditionalGeneration": "text",
    "T5ForConditionalGeneration": "text",  # MT5's, too
    "ForMaskedLM": "encoder",
    "ForImageClassification": "images",
    "ForSemanticSegmentation": "images",
    "ForSpeechSeq2Seq": "speech",
    "ForCTC": "speech",
    "WhisperForConditionalGeneration": "speech",
    "ForConditionalGeneration": "multimodal",
    "ForVisionText2Text": "multimodal",
}
OTHERWISE = "features"
OF_WORDS = ("text", "multimodal")  # uses in which people chat with a model
USES = tuple(dict.fromkeys((*OF_CLASSES.values(), OTHERWISE)))


def purpose(cls: str) -> str:
    """Return the use of a class, as one word ("text")."""
    return next((told for end, told in OF_CLASSES.items() if cls.endswith(end)), OTHERWISE)


def of(entry: CatalogueEntry) -> str:
    """Return the use of a catalogue entry's model, as one word ("text")."""
    if entry.model_type == TIMM:
        return "images"
    return purpose(next(iter(entry.config.get("architectures") or ()), ""))
