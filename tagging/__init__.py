"""What a model says of an image: packed forests, votes, tags and how often the tags are right."""
