"""Applications as people use them, between two hosts: a download, telephone calls, a stream that is played."""
