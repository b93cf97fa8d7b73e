"""What becomes of rows that are in: compaction, retention, erasure."""
