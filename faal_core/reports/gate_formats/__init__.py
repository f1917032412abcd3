"""Show the result of a gate as text, HTML, Markdown, JUnit XML, SARIF and annotations of GitHub Actions.

Names of classes, groups, models and data sets are untrusted. Each format escapes them in its own way.
"""
