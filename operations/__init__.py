"""Running TinyTags: servers, status, what is missing, the demonstration."""
