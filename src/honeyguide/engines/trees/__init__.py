"""Gradient boosted oblivious trees by CatBoost.

Takes: features and labels.
Gives: models, and their arrays for the fused scorer.
Never: serves a request.
"""
