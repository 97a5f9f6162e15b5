"""After a verdict against a behaviour, the lab is asked, while it is alive, for what tells the possible causes apart."""
