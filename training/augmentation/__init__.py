"""New training rows out of old ones, both entities and the label kept true.

    methods.py   the methods by name, as a recipe's `augmentation` block names them
    variants.py  what every method shares: how many rows, which labels, no row twice
    words.py     a sentence as words around its two entities
    eda.py, aeda.py, contextual.py, entities.py   the methods
    refill.py    what contextual.py does, with PyTorch

A further method is a subclass of `variants.Augmentation` in a file of its own and a name in methods.py.
"""
