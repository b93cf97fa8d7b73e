"""Long work: cached steps with fingerprints.

Takes: steps and their inputs.
Gives: artifacts by content.
Never: knows what a step computes.
"""
