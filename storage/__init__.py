"""The store of corpora, models and runs: every file is written whole, every corpus, model and run by one writer."""
