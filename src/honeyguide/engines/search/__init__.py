"""Lexical search over an inverted index in memory-mapped arrays.

Takes: catalog texts.
Gives: hits, facets, and each field's own scores.
Never: ranks by anything but words and popularity.
"""
