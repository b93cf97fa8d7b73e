"""ONNX models by ONNX Runtime.

Takes: a file, and the inputs and outputs that it must have.
Gives: its outputs as arrays, on one thread.
Never: trains.
"""
