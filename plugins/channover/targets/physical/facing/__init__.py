"""NICs that face a switch of others: what is found of their ports by frames alone, before anything is tried."""
