"""What is signed off: the certificate, the bundle, and what proves them."""
