"""Query plans as typed trees: reading them, and what they spent where."""
