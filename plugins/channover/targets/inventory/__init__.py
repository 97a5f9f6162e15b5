"""The lab file: its schema, its fields, and its faults in words."""
