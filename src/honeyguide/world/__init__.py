"""A simulated audience with known truth.

Takes: an Answerer.
Gives: Events.
Never: shares a model with the learners.
"""
