"""From the documents of a run to a Solr collection that holds exactly them, published under an alias."""
