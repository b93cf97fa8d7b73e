"""Searches over parameters, by Optuna (extra `tune`).

Takes: a space of numbers, a function of them that is to be small, and a file that remembers.
Gives: every trial there was, also those of processes before this one.
Never: knows what the numbers mean.
"""
