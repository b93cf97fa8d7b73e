"""Sentence encoders: texts to unit vectors, on one thread, without PyTorch.

Takes: texts, and the folder of an encoder.
Gives: vectors of unit length, cached on disk and in memory.
Never: fetches anything, or trains.
"""
