"""Where web service and workers meet: the jobs table, the files, the queue and the settings."""
