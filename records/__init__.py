"""Corrections that people make, in a database."""
