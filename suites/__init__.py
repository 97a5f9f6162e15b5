"""The suites of channover: what is signed off, each test one documented behaviour.

An installed channover has them as ``channover_suites``: ``pytest --pyargs channover_suites --target=netns``.
"""
