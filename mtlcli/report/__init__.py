"""Runs on one page: tables, charts, pictures and costs, as HTML, Markdown or LaTeX."""
