"""Sources that learn vectors by gradient: a sequence model, two towers, generated ids; served without PyTorch.

Takes: Interactions, the catalog, Queries with the facts of their moment.
Gives: Candidates, and the vectors of people and items.
Never: imports PyTorch where requests are answered: what is named `*_train`, `blocks`, `graph`, `losses` and `train`
runs in a process of its own.
"""
