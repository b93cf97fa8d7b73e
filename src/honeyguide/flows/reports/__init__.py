"""Pages that are written with a build: its report, saved queries, their charts."""
