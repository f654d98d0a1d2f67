"""Annotations: labels and relations of images, as Open Images publishes them."""
