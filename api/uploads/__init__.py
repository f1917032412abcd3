"""Uploads: read a multipart form, check its digests, and stream its file into storage."""
