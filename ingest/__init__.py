"""From a dump as somebody published it to a corpus in the store, every image in one layout."""
