"""Run programs as jobs: isolated, limited, observed and never lost track of."""

__version__ = "0.1.0"
