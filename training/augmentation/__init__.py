"""New training rows from old ones. Both entities and the label stay true.

    methods.py     the methods by name, as a recipe's `augmentation` block names them; options as flags
    variants.py    shared by all methods: how many rows, which labels, no row twice
    words.py       a sentence as words around its two entities
    eda.py, aeda.py, contextual.py, entities.py   the methods
    synonyms.py, nouns.py   EDA's synonyms, and the nouns that have some
    refill.py      the PyTorch part of contextual.py
    rows_file.py   for the command: augmentation of a file

A new method is a subclass of `variants.Augmentation` in its own file, and a name in methods.py.
"""
