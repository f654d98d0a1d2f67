"""Models and what follows from their votes: kinds of model, tags, documents and quality."""
