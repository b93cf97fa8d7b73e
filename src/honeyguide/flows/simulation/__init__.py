"""The product in a world: copies, changes, closed loops, replays."""
