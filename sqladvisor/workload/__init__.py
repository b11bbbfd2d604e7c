"""The shape of a workload: statements that are the same but for their literals."""
