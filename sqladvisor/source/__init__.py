"""SQL in the string literals of programs: found with each language's own parser, at its place.

A reader per language family turns a file into literals (what a string expression is made of:
written text, and gaps that are filled when the program runs); ``embed`` decides which of them are
SQL and makes statements of them. Nothing in here is imported for .sql files, and no grammar before
a file needs it.
"""
