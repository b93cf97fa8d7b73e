"""A simulated audience with known truth. Not furnished yet.

Takes: an Answerer.
Gives: Events.
Never: shares a model with the learners.
"""
