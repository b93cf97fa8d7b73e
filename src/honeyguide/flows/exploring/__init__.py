"""Exploration in the product: what a build learns for it, its guardrails, its audit."""
