"""What is asked for and what there is, as values: topologies, plans, state, links, the catalogue."""
