"""A connection to somebody else's endpoint.

Takes: bodies and the time an answer may take.
Gives: the answers' bodies, or TimeoutError and OSError.
Never: tries again by itself.
"""
