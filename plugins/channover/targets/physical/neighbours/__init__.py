"""What is at the other end of the NICs of a host: switches that tell it by LLDP, and other hosts that are asked as well."""
