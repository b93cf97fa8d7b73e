"""Conformance kits that third-party parts run against themselves.

Takes: a plug-in.
Gives: a verdict with reasons.
Never: imports a stage.
"""
