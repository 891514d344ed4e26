"""HTML pages and charts: of a run, of several runs, of a measured degradation."""
