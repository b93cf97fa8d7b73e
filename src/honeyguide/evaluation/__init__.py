"""Offline proof: ranked lists judged, policies replayed.

Takes: ranked lists and what people did.
Gives: Judged: metrics with intervals.
Never: samples the catalog.
"""
