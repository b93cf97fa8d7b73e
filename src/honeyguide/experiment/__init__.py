"""A/B tests: assignment, design, read-out. Not furnished yet.

Takes: Impressions, Events.
Gives: Readout.
Never: picks an item.
"""
