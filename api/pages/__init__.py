"""The pages for browsers: routes, views, templates and static files."""
