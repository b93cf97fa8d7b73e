"""What is known of people and items at a moment.

Takes: Events, Items.
Gives: FeatureValues, TrainingSet, online values.
Never: sees the future.
"""
