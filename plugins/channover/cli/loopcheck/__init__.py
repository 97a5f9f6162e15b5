"""``channover loopcheck``: whether a tunnel of a host, any host, feeds on itself, or could."""
