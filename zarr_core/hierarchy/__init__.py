"""Nodes in a store: found, created, changed, erased, consolidated."""
