"""What is done to a LAG as a whole: links that are lost and come back, flows that run for long."""
