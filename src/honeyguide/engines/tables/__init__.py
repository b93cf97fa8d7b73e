"""Tables through Ibis: DuckDB by default; Parquet snapshots with manifests.

Takes: expressions and Arrow tables.
Gives: Arrow tables and Parquet files.
Never: knows what a table means.
"""
