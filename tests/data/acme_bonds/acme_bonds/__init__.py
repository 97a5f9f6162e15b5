"""A package of somebody else's, as channover's tests install it."""
