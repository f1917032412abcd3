"""Errors as RFC 9457 problems: the error classes of the web service, and the answer that each error gets."""
