"""Looks at servers over time: samples counters, keeps them, raises alerts, shows a page."""
