"""Transformers that read queries and items: trained on judgments or clicks, served by ONNX Runtime.

Takes: token numbers of queries and items, and which item answers which query how well.
Gives: a bi-encoder and a cross-encoder as ONNX files.
Never: loads PyTorch outside the process that trains.
"""
