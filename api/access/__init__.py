"""Access control: API keys, page sessions, and the host names of the service."""
