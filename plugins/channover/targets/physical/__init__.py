"""Labs of real hosts: leases, placement, cabling, checks before and after."""
