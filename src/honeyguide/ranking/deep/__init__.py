"""A ranker whose heads share what they learn: embeddings, attention over a history, experts; served without PyTorch.

Takes: candidates as `contracts.RankInput`, with labels of all heads.
Gives: a `contracts.Ranker`, which ONNX Runtime scores.
Never: imports PyTorch where requests are answered: `train`, `model` and `export` run in a process of their own.
"""
