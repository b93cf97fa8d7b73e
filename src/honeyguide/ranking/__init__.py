"""From candidates to calibrated outcomes.

Takes: features of candidates.
Gives: Scores: a calibrated probability per outcome, or a rank.
Never: sums what is not calibrated.
"""
