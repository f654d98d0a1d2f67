"""Measures every step of TinyTags side by side with what a user would do instead and with the physical floor."""
