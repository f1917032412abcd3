"""Where web service and workers meet: the jobs table, the files, the queue and the settings.

`states.MOVES` is the table of a job's state changes, and `moves.move` makes each of them by one guarded UPDATE.
Its callers are `control` (what a client can do: cancel, pause, resume, retry) and `lifecycle` (what workers and sweeps do).
"""
