"""Off-policy value: what a policy would have earned on the log of another one, or why the log cannot tell.

Takes: Decisions (choices with their propensities and rewards) and a target policy's probabilities.
Gives: ReplayValue: estimates with intervals, the overlap, the checks of the log, and a verdict.
Never: a number where the design of the log does not carry one.
"""
