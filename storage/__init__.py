"""The store: where corpora, models and runs are kept, each file written whole, each thing by one writer."""
