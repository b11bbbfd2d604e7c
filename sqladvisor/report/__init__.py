"""Reports. Nothing in here computes or connects: it renders findings."""
