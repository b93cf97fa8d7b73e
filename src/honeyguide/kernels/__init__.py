"""Formulas: arrays in, arrays out.

Takes: arrays.
Gives: arrays.
Never: reads files, keeps state, or knows a table.
"""
