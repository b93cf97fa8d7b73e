"""Off-policy value: logs of decisions, policies, estimates, pages."""
