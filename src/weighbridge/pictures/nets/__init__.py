"""Programs: a class's forward over tensors without values, which declares the class's module tree.

A program takes a place in the tree, the config and the sizes of a step:

    def flux(n: Place, c: ComponentConfig, s: Sizes) -> Value

It keeps the local variables of diffusers' own `forward`, in the order of their assignment: what one
of them refers to is alive. Loops over blocks are in the program. Names are diffusers'.
"""
