"""Rules and limits that hold for every request: connections, bodies, rates, logs, metrics, readiness."""
