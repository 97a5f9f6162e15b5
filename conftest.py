"""Loads the plugin, nothing else."""

pytest_plugins = ("channover.plugin",)
