"""The bodies of answers, which the service and its clients share."""
