"""Pictures as SVG text that stands alone: a lab, rates over time, small pictures for a table."""
