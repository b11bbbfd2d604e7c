"""Proves rewrites: both statements are run on small databases made to tell them apart.

What is generated lives in transactions that are rolled back, in an empty database of our own that
has the user's schema. No connection is opened here: ``server`` gives one.
"""
