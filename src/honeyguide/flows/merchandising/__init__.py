"""Merchandising rules of a workspace: kept in a file, asked for every list, told to people.

Takes: `merchandising.toml`. Gives: what the rules want of a list, and the list as they want it. Never: learns.
"""
