"""The only room that talks to PostgreSQL: guarded sessions, embedded clusters, EXPLAIN, what-if."""
