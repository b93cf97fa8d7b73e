"""The only I/O and the only drivers: each folder wraps one kind of library behind a contract.

Takes: what a contract asks.
Gives: what a contract promises.
Never: decides anything about discovery.
"""
