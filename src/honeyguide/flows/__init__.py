"""The only room that knows several stages: build, answer, evaluate, and the workspace they run in.

Takes: a workspace.
Gives: builds, answers, reports.
Never: holds a formula or opens a driver.
"""
