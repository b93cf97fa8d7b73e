"""Rows on their way in: loads, Quarantine, replays, and the history of both."""
