"""What a query, an item, a person, a click is.

Takes: Items, queries.
Gives: suggestions, Labels, Segments.
Never: ranks.
"""
