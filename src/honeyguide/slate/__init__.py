"""From scores to the list a person sees.

Takes: Scores, rules, weights.
Gives: Slate with exact propensities, and what was dropped and why.
Never: changes a list after its propensity was computed.
"""
