"""Demand to machines and money. Not furnished yet.

Takes: Events, StageCosts.
Gives: Plan.
Never: plans without headroom.
"""
