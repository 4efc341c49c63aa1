"""From what a person types to a model whose every tensor is known: files, headers, shapes.

reference -> source -> files -> headers -> Inventory -> the class's parameters -> Model

gather.py      a reference, of whatever kind, becomes an inventory
reading.py     headers of every format, each as the tensors that it stores
layouts.py     which files of a folder hold the weights that its library would load
inventory.py   what was read: tensors by part, with the config
loading.py     stored tensors beside the parameters of the class
model.py       the Model that every question is about
"""
