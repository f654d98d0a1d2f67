"""From a published dump to a corpus in the store, every image in one layout."""
