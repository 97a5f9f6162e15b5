"""channover: documented behaviours of aggregated links as pytest suites."""

__version__ = "0.1.0"
