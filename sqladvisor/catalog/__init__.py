"""What the database looks like: relations, columns, keys, indexes. No SQL text of queries here."""
