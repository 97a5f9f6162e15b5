"""Micro-VMs: their kernels, their boot files, and how they run."""
