"""Settings, the base exception, progress, and the configuration files of servers."""
