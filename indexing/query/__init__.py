"""From a search, as its URL says it, to Solr and back."""
