"""Causes of a verdict against a behaviour: from what was seen of a lab to ranked causes, with their evidence and remedy."""
