"""One detector of several sites that do not pool their images.

What a site sends, and what is made of it, is in a file for each method, as plain named tensors; how it
travels is another matter.
"""
