"""Webhook delivery, and the addresses that it may send to."""
