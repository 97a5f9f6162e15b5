"""channover's options: what they are called, what they say on the command line, and what they were given."""
