"""Switches that are read by SNMP, and never written."""
