"""Advice that needs comparison: index candidates, their cost, their proof."""
