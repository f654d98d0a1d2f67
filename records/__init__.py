"""Corrections that people make and predictions of models, in a database."""
