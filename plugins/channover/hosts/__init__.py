"""Hosts: one protocol, told for a namespace of this machine."""
