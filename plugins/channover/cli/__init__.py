"""The command ``channover``."""
