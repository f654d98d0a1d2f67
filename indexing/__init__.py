"""From the documents of a run to a Solr collection that holds exactly them, and the alias that shows it."""
