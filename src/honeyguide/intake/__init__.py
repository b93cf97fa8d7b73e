"""Raw data to trusted tables.

Takes: files, API events.
Gives: Events, Items, Users, Quarantine with reasons.
Never: drops a row silently.
"""
