"""The durable, idempotent log.

Takes: LogRecords.
Gives: offsets, and the records back.
Never: interprets a payload.
"""
