"""Measurements of models, features, labels and corrections: each module is a command that may write a section of a document."""
