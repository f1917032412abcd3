"""Gates: whether an audit meets a policy, decided by its intervals and by tests against a baseline.

`judging.judge_audit` goes from policy and report to the result. `faal_core.reports.gate_call` takes what a caller in Python has.
"""
