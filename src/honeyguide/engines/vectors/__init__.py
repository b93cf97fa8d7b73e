"""Nearest vectors: exact where that is fast enough, by FAISS beyond.

Takes: vectors and the rows that they stand for.
Gives: a `contracts.VectorIndex`, with the recall that was measured when it was built.
Never: learns a vector.
"""
