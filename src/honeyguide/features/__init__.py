"""What is known of people and items at a moment.

Takes: Events, Items.
Gives: FeatureValues, TrainingSet, online values.
Never: sees the future.

`definition` says what a feature means, once; `defaults` proposes a set for any workspace. `training_set` gives its
values for labels and candidates of the past, `online` keeps them event by event and reads them for a request; both run
the same kernels over the same integers, so a value is the same number in both. `asof_ibis` is the same in SQL, for
DuckDB and Spark; `values` writes the tables.
"""
