"""What formats of weights cost in quality: published figures, each with the page that prints it.

    figures.jsonl   a line a page, then its tables: one model, metric, text and way of making
    records.py      what a line says, and how a loss is told from its own baseline
    kinship.py      how near one model is to another, by name and size
    lookup.py       the figure to show for a model and a format; None where none is published

Only a value and the baseline of the same table are ever compared. Figures without a baseline on
their page are left out, and so are medians, shares of alike tokens and losses without a unit.
"""
