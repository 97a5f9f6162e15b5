"""What aggregates and carries: LAGs, MPTCP, policy routing, tunnels, guards."""
