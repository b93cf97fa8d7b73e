"""From millions of items to hundreds of candidates.

Takes: Interactions, the catalog, Queries.
Gives: Candidates, and Pools of them.
Never: returns an excluded item.
"""
