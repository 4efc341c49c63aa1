"""Fields of the page besides the settings of a task: for answers, and filters of its tables."""

from weighbridge.answers.questions.fit.request import ABOUT, MAX
from weighbridge.engines.table import ENGINES
from weighbridge.machines.accelerators import listing
from weighbridge.memory.report.fit import NAMES, SMALLEST
from weighbridge.models.catalogue import listing as models
from weighbridge.models.catalogue.uses import USES
from weighbridge.settings.setting import Settings, Str, Switch, switch, word


class AnswerFields(Settings):
    """Fields that every question of the page has besides its settings."""

    TITLE = "Answer"
    TITLE_ZH = "问题"
    revision: Str = word()


class ServedFields(Settings):
    """Fields of a question about serving: a launch command."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    command: Str = word()


class SolvedFields(Settings):
    """Fields of a question of `fit`: its task, and the value to solve for."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    question: Str = word(*ABOUT, name="for")
    max: Str = word(*MAX)
    smallest: Str = word(*SMALLEST)


class ListFilters(Settings):
    """The filter of a list: a part of its names."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    pattern: Str = word()


class GpuFilters(ListFilters):
    """The filters of the list of accelerators, as fields of the page."""

    bf16: Switch = switch()
    fp8: Switch = switch()
    fp4: Switch = switch()
    int8: Switch = switch()
    nvlink: Switch = switch()
    min_memory: Str = word()
    use: Str = word(*listing.USES)
    vendor: Str = word()
    sort: Str = word(*listing.SORTS)


class ModelFilters(ListFilters):
    """Filters of the list of models, and the card that they are ranked for."""

    use: Str = word(*USES)
    sort: Str = word(*models.SORTS)

    gpu: Str = word()
    question: Str = word(*NAMES, name="for")
    engine: Str = word(*ENGINES)
    quantization: Str = word()
    min_context: Str = word()


class AccuracyFilters(Settings):
    """Filters of the table of published figures."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    engine: Str = word()
    source: Str = word()
    by_source: Switch = switch()


class NoFilters(Settings):
    """No fields, for tabs without filters: the comparison and the registry."""
