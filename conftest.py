"""Loads the plugin, nothing else."""

pytest_plugins = ("channover.pytest_plugin.hooks",)
