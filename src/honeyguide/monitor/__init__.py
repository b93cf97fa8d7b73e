"""Drift, and what it does to every model. Not furnished yet.

Takes: FeatureValues, Impressions.
Gives: Drift, Impact, StageCosts.
Never: blocks a request.
"""
