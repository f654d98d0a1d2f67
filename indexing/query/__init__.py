"""A search: from its URL to Solr and back."""
