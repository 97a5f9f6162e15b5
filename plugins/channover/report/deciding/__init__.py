"""What a run comes to: how its tests ended, the rules and waivers by which it is accepted, and what it leaves out."""
