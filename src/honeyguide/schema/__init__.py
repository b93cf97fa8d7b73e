"""What travels between the rooms: every column, every table (with its one writer), the ids and the wire.

Takes: nothing. Gives: names, dtypes, units and meanings. Never: reads or writes anything.
"""
