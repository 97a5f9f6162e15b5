"""The proof of a lab's cables before a test and after a verdict against: what each carries, loses and delays, each way."""
