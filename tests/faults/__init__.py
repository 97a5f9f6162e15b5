"""The fault matrix: faults done to living labs, and what the suites make of each (``make faults``).

A fault is done to the lab, never to a test or a verdict. :mod:`tests.faults.fault` says what a row is, the modules of families
hold the rows, :mod:`tests.faults.injection` does one beside a run of the suites, :mod:`tests.faults.run` runs and judges them.
"""
