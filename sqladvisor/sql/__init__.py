"""SQL text: files, statements, positions, names. Nothing here connects or knows a rule."""
