"""The migration gate: reads migrations as their runner does, judges, traces and compares them."""
