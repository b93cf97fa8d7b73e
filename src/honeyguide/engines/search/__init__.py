"""Lexical search by tantivy.

Takes: catalog texts.
Gives: hits.
Never: ranks by anything but words.
"""
