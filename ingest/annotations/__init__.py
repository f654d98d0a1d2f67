"""Annotations: labels and relations of images, as Open Images publishes them."""

# What --labels is for labels from annotations: this and their name.
PREFIX = "annotations:"
